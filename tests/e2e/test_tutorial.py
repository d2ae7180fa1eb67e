"""Every command of the tutorial is run, in order, and prints what the page says.

`make tutorial` writes the outputs into the page that the commands have now.
"""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, CommandLine
from tests.support.transcript import Step, rewritten, same_shape, steps, update

PAGE = ROOT / "docs" / "tutorial.md"
PORT = "12434"


@pytest.fixture
def shell(cli: CommandLine, mirror: str, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """What a command prints in a reader's shell: the stand-in's address is Docker Hub's there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    folder = tmp_path / "project"
    folder.mkdir()
    programs = Path(sys.executable).parent
    environ = {
        **cli.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "MODELRUNNER_MIRRORS": mirror,
        "MODELRUNNER_RUNTIME": "xllamacpp",
    }

    def run(command: str) -> str:
        # another server may have the usual port
        command = re.sub(r"^modelrunner serve .*", rf"\g<0> --port {port}", command)
        command = command.replace(f":{PORT}/", f":{port}/")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = done.stdout.replace(mirror.partition("=")[2], "docker.io").replace(port, PORT)
        said = said.replace(str(cli.home), "~/.local/share/modelrunner")
        return said if said.endswith("\n") or not said else f"{said}\n"

    yield run
    cli("stop", "--all")


@pytest.mark.model
def test_every_command_of_the_tutorial_prints_what_the_page_says(
    shell: Callable[[str], str],
) -> None:
    if "MODELRUNNER_UPDATE_DOCS" in os.environ:
        update(PAGE, shell)
        return
    found = steps(PAGE.read_text("utf-8"))
    assert len(found) > 15
    for step in found:
        printed = shell(step.command)
        assert same_shape(step.output, printed), f"$ {step.command}\n{printed}"


def test_outputs_differ_in_figures_and_in_nothing_else() -> None:
    documented = "ai/x: fits, needs 1.50 GiB of 8.00 GiB memory; context 8192, 2 threads\n"
    assert same_shape(documented, documented.replace("1.50 GiB", "300 MiB").replace("2", "16"))
    assert not same_shape(documented, documented.replace("fits", "does not fit"))
    assert not same_shape(documented, f"{documented}note: more\n")
    assert same_shape("TYPE  SIZE\n...\nlast ... line\n", "TYPE SIZE\na\nb\nlast or any line\n")
    assert same_shape("pulled 548804b827ff in 2s\n", "pulled 0a4b8c1d2e3f in 1m 12s\n")


def test_a_document_gets_the_outputs_of_now() -> None:
    document = "Text\n\n```console\n$ a \\\n    b\nold\n$ c\nx ... z\n```\nmore\n"
    assert steps(document) == [Step("a \\\n    b", "old\n"), Step("c", "x ... z\n")]
    said = {"a \\\n    b": "new\n", "c": "x y z\n"}
    assert rewritten(document, said.__getitem__) == document.replace("old", "new")
