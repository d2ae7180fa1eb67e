"""`share` from the outside: what it prints, how it ends, who can pull from it."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf


@pytest.fixture
def packaged(cli: CommandLine, tmp_path: Path) -> str:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    done = cli("package", str(file), "team/tiny:1", "--json")
    assert done.returncode == 0
    return json.loads(done.stdout)["digest"]


@contextmanager
def sharing(cli: CommandLine, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        cli.argv("share", "--port", "0", *options),
        env=dict(cli.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process.stdout.readline().rstrip("\n"), process
        finally:
            process.kill()


def test_somebody_else_pulls_what_is_shared(
    cli: CommandLine, packaged: str, tmp_path: Path
) -> None:
    with sharing(cli) as (address, _):
        home = str(tmp_path / "elsewhere")
        mirrors = f"docker.io={address}"
        done = cli(
            "pull", "team/tiny:1", "--json", MODELRUNNER_HOME=home, MODELRUNNER_MIRRORS=mirrors
        )
    found = json.loads(done.stdout)
    assert (found["reference"], found["digest"]) == ("docker.io/team/tiny:1", packaged)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_it_serves_until_it_is_told_to_end(
    cli: CommandLine, packaged: str, number: signal.Signals, code: int
) -> None:
    with sharing(cli) as (address, process):
        assert address.startswith("http://127.0.0.1:")
        assert process.stderr.readline() == "sharing 1 model read-only; press Ctrl-C to stop\n"
        process.send_signal(number)
        assert process.wait(60) == code
        assert process.stderr.read() == ""


def test_a_port_that_is_taken_is_a_runtime_error(cli: CommandLine, packaged: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("share", "--port", str(port), "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (8, "", "port_in_use")
    assert str(port) in error["message"]
