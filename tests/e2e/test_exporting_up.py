"""What `export compose` writes, started by Docker Compose on a real daemon."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from modelrunner.runtime.child.ports import free_port
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.docker_daemon import DockerDaemon
from tests.support.exports import COMPOSE
from tests.support.fixtures import script
from tests.support.llama_image import IMAGE
from tests.support.python_image import import_python
from tests.support.registry import Registry
from tests.support.stores import put

NAME = "ai/tiny:1"
PATIENCE_S = 60
HERE = """
services:
  model:
    # the stand-in for Docker Hub listens on loopback
    network_mode: host
  server:
    # the stand-in for the image of llama.cpp has no curl
    healthcheck: { disable: true }
"""
pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A model that llama.cpp loads, called as nobody would call it."""
    (path,) = script("models").write_model("granitehybrid", tmp_path_factory.mktemp("tiny"))
    return docker_artifact(path.read_bytes(), filenames=['a "b" $HOME $$x.gguf'])


@pytest.fixture(scope="module")
def hub(artifact: Artifact) -> Iterator[Registry]:
    """What stands in for Docker Hub."""
    with Registry() as registry:
        registry.add(artifact, "ai/tiny", ["1"])
        yield registry


@pytest.fixture(scope="module")
def daemon(
    docker_with_llama: DockerDaemon,
    hub: Registry,
    wheels: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> DockerDaemon:
    """A daemon that has both images, or stand-ins for them."""
    folder = tmp_path_factory.mktemp("image")
    mirrors = {"MODELRUNNER_MIRRORS": f"docker.io={hub.url}"}
    host = docker_with_llama.host
    import_python(host, "python:3.12-slim", folder, wheels, mirrors, ["chown"])
    _build_puller(host)
    return docker_with_llama


def _build_puller(host: str) -> None:
    """The image that `docs/deploy.md` tells to build, with the wheel in place of its source."""
    text = "FROM python:3.12-slim\nRUN pip install --no-cache-dir modelrunner\n"
    built = subprocess.run(
        ["docker", "-H", host, "build", "--network", "host", "--tag", "puller:1", "-"],
        input=text.encode(),
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        check=False,
    )
    assert built.returncode == 0, (built.stdout + built.stderr).decode()


@dataclass(frozen=True)
class Project:
    """A folder with a Compose file, and what differs here from the world it is written for."""

    folder: Path
    host: str

    def __call__(self, *arguments: str) -> str:
        files = ("--file", "compose.yaml", "--file", "here.yaml")
        done = subprocess.run(
            [COMPOSE, *files, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "DOCKER_HOST": self.host, "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def project(
    cli: CommandLine, daemon: DockerDaemon, artifact: Artifact, port: int, tmp_path: Path
) -> Iterator[Project]:
    put(cli.store, artifact, NAME)
    where = ("--puller", "puller:1", "--image", IMAGE, "--port", str(port), "--context", "256")
    done = cli("export", "compose", NAME, *where, "-o", str(tmp_path / "compose.yaml"))
    assert done.returncode == 0, done.stderr
    (tmp_path / "here.yaml").write_text(HERE)
    project = Project(tmp_path, daemon.host)
    yield project
    project("down", "--volumes", "--timeout", "1")


def answer(port: int, path: str, body: object = None) -> Mapping[str, object]:
    """What the server says, once it does."""
    request = Request(
        f"http://127.0.0.1:{port}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urlopen(request, timeout=PATIENCE_S) as response:
                found: Mapping[str, object] = json.load(response)
                return found
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_it_pulls_once_and_serves_without_rights(
    project: Project, hub: Registry, artifact: Artifact, port: int
) -> None:
    project("up", "--detach", "--quiet-pull")
    assert answer(port, "/health") == {"status": "ok"}
    (model,) = answer(port, "/v1/models")["data"]
    assert model["id"] == NAME
    asked = {"prompt": "hi", "max_tokens": 2, "temperature": 0}
    assert answer(port, "/v1/completions", asked)["choices"]
    (container,) = json.loads(f"[{project('ps', '--format', 'json', 'server')}]")
    inspected = subprocess.run(
        ["docker", "-H", project.host, "inspect", container["ID"]], capture_output=True, check=True
    )
    (found,) = json.loads(inspected.stdout)
    limits = found["HostConfig"]
    assert found["Config"]["User"] == "65534:65534"
    assert (limits["ReadonlyRootfs"], limits["CapDrop"]) == (True, ["ALL"])
    assert limits["Memory"] > 640 << 20
    assert [mount["RW"] for mount in found["Mounts"] if mount["Type"] == "volume"] == [False]
    # what is there already is not fetched again
    blobs = hub.count("GET", "blobs")
    project("up", "--detach", "--force-recreate")
    assert answer(port, "/health") == {"status": "ok"}
    assert hub.count("GET", "blobs") == blobs
