"""Docker Model Runner's own command line, as `.ci/docker-model` builds it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_VERSION = "v1.2.9"
_CACHE = Path(os.environ.get("MODELRUNNER_CI_WHEELS") or "/var/cache/modelrunner-ci")
PROGRAM = _CACHE / f"docker-model-{_VERSION}" / "docker-model"

needs_docker_model = pytest.mark.skipif(
    not PROGRAM.is_file(), reason="no docker-model: `.ci/docker-model` builds it"
)


@dataclass(frozen=True)
class Done:
    """How a command ended; most of its commands print their result to stderr."""

    code: int
    said: str

    @property
    def lines(self) -> list[list[str]]:
        """The words of each line."""
        return [line.split() for line in self.said.splitlines()]


@dataclass(frozen=True)
class DockerModel:
    """`docker model` with a home of its own, asking one server."""

    url: str
    home: Path

    @property
    def environ(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "MODEL_RUNNER_HOST": self.url,
            "NO_COLOR": "1",
        }

    def __call__(self, *arguments: str, text: str = "", timeout: float = 120) -> Done:
        """Run a command."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            env=self.environ,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    @contextmanager
    def following(self, *arguments: str) -> Iterator[Iterator[str]]:
        """The block in which a command runs that does not end by itself; its lines."""
        with subprocess.Popen(
            [PROGRAM, *arguments],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield iter(process.stdout.readline, "")
            finally:
                process.kill()
