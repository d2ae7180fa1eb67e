"""A start on a machine without a runtime offers to install one; a script is shown the command."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.bare import ROOT, bare_argv, bare_environ
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry
from tests.support.runtime_image import artifact_of, shell_image
from tests.support.terminal import Terminal, in_terminal

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("ldd") is None, reason="starts programs of images"
)


@pytest.fixture
def environ(cli: CommandLine, registry: Registry, tmp_path: Path) -> dict[str, str]:
    """That of a machine without a runtime, for which the registry stands for ghcr.io."""
    image = artifact_of(shell_image("b11434"))
    registry.add(image, "ggml-org/llama.cpp", ["server", "server-b11434"])
    (tmp_path / "empty").mkdir()
    mirrors = {"MODELRUNNER_MIRRORS": f"ghcr.io=http://{registry.host}"}
    return {**bare_environ(cli.environ, tmp_path / "empty"), **mirrors}


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model's file."""
    return str(tiny_gguf(tmp_path / "tiny.gguf"))


@contextmanager
def asked(
    environ: dict[str, str], *arguments: str
) -> Iterator[tuple[Terminal, "subprocess.Popen[bytes]"]]:
    """A start at its question."""
    with in_terminal(bare_argv(*arguments), environ, folder=ROOT) as (terminal, process):
        before = terminal.wait_for("? [y/N] ")
        lines = [line for line in before.splitlines() if line]
        assert lines[0] == "no runtime is installed that can run a model"
        assert lines[-1].startswith("Install ghcr.io/ggml-org/llama.cpp:server")
        assert " to download, about " in lines[-2]
        yield terminal, process


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_without_consent_nothing_is_installed_and_the_commands_are_shown(
    environ: dict[str, str], cli: CommandLine, model: str, answer: str
) -> None:
    with asked(environ, "run", model, "hi") as (terminal, process):
        terminal.type(answer)
        rest = terminal.drain()
        assert process.wait(30) == 8
    assert "no runtime found that can run a model" in rest
    assert "`modelrunner runtimes install` for a GPU" in rest
    assert cli("runtimes", "list", "--json").stdout == "[]\n"


@pytest.mark.parametrize("command", ["run", "bench"])
def test_with_consent_it_is_installed_and_started(
    environ: dict[str, str], cli: CommandLine, model: str, command: str
) -> None:
    with asked(environ, command, model) as (terminal, process):
        terminal.type("y\n")
        rest = terminal.drain()
        # the server of this image starts for nobody
        assert process.wait(60) == 8, rest
    assert "no runtime found" not in rest
    assert "installed cpu@b11434" in rest
    assert _in_use(cli) == ["cpu@b11434"]


def test_a_server_of_models_offers_it_too(
    environ: dict[str, str], cli: CommandLine, model: str
) -> None:
    with asked(environ, "serve", model, "--port", "0") as (terminal, _process):
        terminal.type("y\n")
        terminal.wait_for("http://127.0.0.1:")
    assert _in_use(cli) == ["cpu@b11434"]


def _in_use(cli: CommandLine) -> list[str]:
    listed = json.loads(cli("runtimes", "list", "--json").stdout)
    return [one["name"] for one in listed if one["in_use"]]


def test_a_named_one_is_offered_by_its_name(
    environ: dict[str, str], cli: CommandLine, model: str
) -> None:
    line = ["run", model, "hi", "--runtime", "installed:cpu@b11434"]
    with asked(environ, *line) as (terminal, _process):
        terminal.type("y\n")
        terminal.drain()
    assert _in_use(cli) == ["cpu@b11434"]


@pytest.mark.parametrize("ruled_out", ["--offline", "--json"])
def test_nothing_is_asked_where_it_cannot_be_answered(
    environ: dict[str, str], model: str, ruled_out: str
) -> None:
    with in_terminal(bare_argv("run", model, "hi", ruled_out), environ, folder=ROOT) as (
        terminal,
        process,
    ):
        seen = terminal.drain()
        assert process.wait(30) == 8
    assert "[y/N]" not in seen
    assert "no runtime found that can run a model" in seen


def test_a_script_is_shown_the_command(environ: dict[str, str], model: str) -> None:
    done = subprocess.run(
        bare_argv("run", model, "hi"), env=environ, cwd=ROOT, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (8, "")
    assert done.stderr.endswith("or `modelrunner runtimes install` for a GPU\n")
