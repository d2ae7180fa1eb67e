"""What holds for every command: clean streams, JSON, and work in bare environments.

A command that is new is run without arguments, and has to keep to the same rules.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.cli.parser.command_table import COMMANDS
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.registry import Registry
from tests.support.stores import put

ARGUMENTS = {
    "run": ["ai/none", "hello"],
    "pull": ["ai/tiny:1", "ai/tiny:1"],
    "inspect": ["ai/tiny:1"],
    "path": ["ai/tiny:1"],
    "rm": ["ai/tiny:1"],
    "tag": ["ai/tiny:1", "ai/other:1"],
    "package": ["missing.gguf", "ai/x"],
    "push": ["127.0.0.1:9/team/tiny:1"],
    "copy": ["store:ai/tiny:1", "127.0.0.1:9/team/tiny:1"],
    "delete": ["127.0.0.1:9/team/tiny:1", "--yes"],
    "mirror": ["sync", "missing.txt", "--to", "127.0.0.1:9"],
    "save": ["ai/tiny:1", "-o", "models.tar"],
    "load": ["missing.tar"],
    "export": ["compose", "ai/tiny:1"],
    "serve": ["ai/none"],
    "launch": ["env", "--model", "ai/none"],
    "stop": ["ai/none"],
    "logs": ["ai/none"],
    "bench": ["ai/none"],
    "share": ["--port", "70000"],
    "estimate": ["ai/tiny:1"],
    "card": ["ai/smollm2"],
    "tags": ["ai/tiny"],
    "login": ["127.0.0.1:9", "--username", "me", "--password-stdin"],
    "logout": ["127.0.0.1:9"],
    "configure": ["ai/tiny:1"],
}


@pytest.fixture
def bare(
    cli: CommandLine, tiny: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommandLine]:
    """One model, no home directory, no locale, nobody else may read, and no terminal."""
    monkeypatch.chdir(tmp_path)
    put(cli.store, tiny, "ai/tiny:1")
    kept = {name: value for name, value in cli.environ.items() if name not in ("HOME", "LANG")}
    before = os.umask(0o077)
    yield replace(cli, environ={**kept, "LC_ALL": "C"})
    os.umask(before)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "options",
    [("--progress", "plain"), ("-q", "--progress", "json")],
    ids=["plain", "quiet"],
)
def test_no_terminal_gets_no_colour_and_no_moving_line(
    bare: CommandLine, name: str, options: tuple[str, ...]
) -> None:
    done = bare(name, *ARGUMENTS.get(name, []), "--offline", *options, stdin=b"secret\n")
    # 1 is a bug
    assert done.returncode in {0, *range(2, 11)}, done.stderr
    said = done.stdout + done.stderr
    assert not {"\r", "\x1b"} & {*said}
    assert "Traceback" not in said
    if done.returncode:
        assert "error: " in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_with_json_every_command_says_json_only(bare: CommandLine, name: str) -> None:
    arguments = [*ARGUMENTS.get(name, []), "--offline", "--json", "--progress", "none"]
    done = bare(name, *arguments, stdin=b"secret\n")
    told = [json.loads(line) for line in done.stderr.splitlines()]
    if done.returncode == 0:
        assert not done.stdout or json.loads(done.stdout) is not None
        assert all("warning" in entry for entry in told)
    else:
        assert done.stdout == ""
        error = told[-1]["error"]
        assert {"code", "message", "hint", "retryable"} <= set(error)


@pytest.mark.parametrize("home", ["/proc/x", "/dev/null/x"])
def test_a_home_that_cannot_be_made_is_a_configuration_error(
    cli: CommandLine, registry: Registry, tiny: Artifact, home: str
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    done = cli("pull", registry.reference("team/tiny:1"), MODELRUNNER_HOME=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert home in done.stderr.splitlines()[0]
    assert "hint: set MODELRUNNER_HOME to a directory that you own\n" in done.stderr
    assert registry.count("GET", "blobs") == 0
