"""Text that strangers wrote, on a terminal: none of it controls anything there."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry
from tests.support.terminal import in_terminal

NASTY = "x\x9b31m\x7f\u202e\u2066\x1b]0;title\x07\x1b[2Jy"
UNSAFE = {"\x9b", "\x7f", "\u202e", "\u2066", "\x1b]", "\x1b[2J", "\x07"}
FILE = "mod\x9b31m\u202eel.gguf"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    tiny_gguf(path)
    weights = path.read_bytes()
    texts = dict.fromkeys(
        ("quantization", "parameters", "architecture", "size", "format_version", "note"), NASTY
    )
    with Registry() as made:
        artifact = docker_artifact(
            weights,
            license=NASTY.encode(),
            template=NASTY.encode(),
            config={
                **texts,
                "gguf": {"general.name": NASTY, "general.author": NASTY, NASTY: NASTY},
            },
        )
        made.add(artifact, "team/model", tags=["1"])
        yield made


@pytest.fixture
def pulled(cli: CommandLine, registry: Registry) -> CommandLine:
    done = cli("pull", registry.reference("team/model:1"))
    assert done.returncode == 0, done.stderr
    return cli


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "NAME"),
        ("inspect", "--remote", "NAME"),
        ("inspect", "--security", "NAME"),
        ("inspect", "--json", "NAME"),
        ("list",),
        ("list", "--json"),
        ("show", "NAME"),
        ("estimate", "NAME"),
        ("estimate", "--json", "NAME"),
        ("estimate", "FILE"),
        ("inspect", "FILE"),
        ("tags", "NAME"),
        ("verify", "NAME"),
        ("df",),
        ("export", "vllm", "NAME"),
        ("rm", "NAME"),
    ],
    ids=" ".join,
)
def test_terminal_gets_no_control_character_of_a_stranger(
    pulled: CommandLine, registry: Registry, command: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / FILE
    tiny_gguf(file)
    names = {"NAME": registry.reference("team/model:1"), "FILE": str(file)}
    arguments = [names.get(word, word) for word in command]

    with in_terminal(pulled.argv(*arguments), pulled.environ) as (terminal, process):
        shown = terminal.drain()
        process.wait(60)

    assert shown
    assert "Traceback" not in shown
    assert {mark for mark in UNSAFE if mark in shown} == set()


def test_json_of_a_terminal_is_that_of_a_pipe(pulled: CommandLine, registry: Registry) -> None:
    name = registry.reference("team/model:1")
    piped = pulled("inspect", name)

    with in_terminal(pulled.argv("inspect", name), pulled.environ) as (terminal, _process):
        shown = terminal.drain()

    assert json.loads(shown) == json.loads(piped.stdout)
    assert "\x9b" in piped.stdout
