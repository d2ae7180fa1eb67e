"""A real `llama-server` out of an image, with another C library than this machine's, answers."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelrunner.runtime.images import start
from modelrunner.runtime.images.library import Library
from tests.conftest import CommandLine
from tests.support.registry import Registry
from tests.support.runtime_image import artifact_of, real_image

pytestmark = [pytest.mark.real, pytest.mark.slow]

_CACHE = Path(os.environ.get("MODELRUNNER_CI_WHEELS") or "/var/cache/modelrunner-ci")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the runtime installed."""
    folder = tmp_path_factory.mktemp("real")
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    cache = _CACHE if os.access(_CACHE, os.W_OK) else folder
    image = real_image(cache / "llama-server")
    with Registry() as registry:
        registry.add(artifact_of(image), "ggml-org/llama.cpp", ["server"])
        environ = {
            **kept,
            "HOME": str(folder / "user"),
            "MODELRUNNER_HOME": str(folder / "home"),
            "MODELRUNNER_MIRRORS": f"ghcr.io=http://{registry.host}",
        }
        done = CommandLine(folder / "home", environ)("runtimes", "install", "cpu", "--yes")
    assert done.returncode == 0, done.stderr
    return folder / "home"


@pytest.fixture
def installed(cli: CommandLine, home: Path) -> CommandLine:
    """The command line with the runtime installed."""
    shutil.copytree(home / "runtimes", cli.home / "runtimes", symlinks=True)
    return cli


def test_it_answers(installed: CommandLine, smollm2_gguf: Path) -> None:
    question = "What is the capital of France? Answer in one sentence."
    done = installed(
        "run", str(smollm2_gguf), question, "--max-tokens", "24", "--temperature", "0", "--json",
        MODELRUNNER_RUNTIME="installed",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"].strip()


def test_auto_tries_it_first(installed: CommandLine) -> None:
    rows = json.loads(installed("runtimes", "--json").stdout)
    assert (rows[0]["name"], rows[0]["chosen"]) == ("installed", True)


@pytest.mark.parametrize("isolate", [True, False], ids=["isolated", "by a loader"])
def test_both_ways_of_starting_it_find_its_libraries(installed: CommandLine, isolate: bool) -> None:
    one = Library(installed.home / "runtimes").current()
    assert one is not None
    said = _said(start.command(one, ["--version"], os.environ, isolate=isolate))
    assert one.version is not None
    assert one.version in said


def _said(made: start.Command) -> str:
    environ: Mapping[str, str] = made.environ
    done = subprocess.run(
        made.argv, env=dict(environ), capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout + done.stderr
