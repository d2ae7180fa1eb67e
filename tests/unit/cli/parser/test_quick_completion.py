"""Completion without Typer offers what Typer would, and leaves to it what is not plain."""

from collections.abc import Iterator
from functools import cache, partial

import pytest

from modelrunner.cli.by_typer import parser
from modelrunner.cli.context import shared_options
from modelrunner.cli.parser.command_table import ALIASES, COMMANDS, load
from modelrunner.cli.parser.completion import answer
from modelrunner.cli.parser.declared import Option, parameters_of
from modelrunner.cli.parser.quick_completion import complete_quickly

SHARED = parameters_of(shared_options)


@pytest.fixture(scope="module")
def typer():
    """Typer's parser, which makes each command once and not for every line."""
    found = parser()
    made = cache(partial(found.get_command, None))
    found.get_command = lambda _context, name: made(name)
    return found


@pytest.fixture
def asked(typer, tmp_path, monkeypatch, capsys):
    """Both answers to a line; None of the quick one where it leaves the line to Typer."""
    monkeypatch.setenv("MODELRUNNER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def ask(line: str, shell: str = "zsh") -> tuple[str | None, str]:
        words = line.split(" ")
        environ = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        done = complete_quickly(shell, environ, SHARED)
        quick = capsys.readouterr().out if done else None
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        if quick is None:
            return None, ""
        answer(typer, {}, "modelrunner", shell)
        return quick, capsys.readouterr().out

    return ask


def lines_of(name: str) -> Iterator[str]:
    """Lines that use each parameter of a command, and end with a word that is begun."""
    start = f"modelrunner {name}"
    for before in ("", " first", " first second", " --json", " a=b --quiet", " --nothing", " --"):
        yield f"{start}{before} "
        yield f"{start}{before} ai/g"
    declaration = load(name)
    assert declaration is not None
    for entry in declaration.parameters():
        if isinstance(entry.declaration, Option):
            for option in entry.declaration.names or (f"--{entry.name.replace('_', '-')}",):
                yield f"{start} {option} "
                yield f"{start} first {option} a"
                yield f"{start} {option} 1 "
                yield f"{start} {option}=1 "
                yield f"{start} {option}=a"
                yield f"{start} {option} --other "


@pytest.mark.parametrize("name", [*COMMANDS, *ALIASES])
def test_both_offer_the_same(asked, name):
    found = {line: asked(line) for line in lines_of(name)}
    quick = {line: both for line, both in found.items() if both[0] is not None}
    assert {line: both[0] for line, both in quick.items()} == {
        line: both[1] for line, both in quick.items()
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    "line",
    [
        "modelrunner ",
        "modelrunner p",
        "modelrunner nothing",
        "modelrunner pull ",
        "modelrunner run ai/granite",
        "modelrunner pull first second ai/",
        "modelrunner run ai/smollm2 --set kv-",
        "modelrunner rm --yes ",
        "modelrunner run --context 4096 ai/",
        "modelrunner export k",
    ],
)
def test_usual_lines_need_no_other_parser(asked, shell, line):
    quick, whole = asked(line, shell)
    assert quick == whole


@pytest.mark.parametrize(
    "line",
    [
        "modelrunner --json pull ",
        "modelrunner pull --conn",
        "modelrunner pull --connections=",
        "modelrunner pull --unknown ",
        "modelrunner pull -- ",
        "modelrunner pull 'ai/",
        "modelrunner nothing ",
        "modelrunner purge ",
        "modelrunner path first ",
        "modelrunner help ",
    ],
)
def test_what_is_not_plain_is_left_to_typer(asked, line):
    assert asked(line)[0] is None


def test_a_script_that_sends_no_line_is_left_to_typer(capsys):
    for environ in ({}, {"COMP_WORDS": "modelrunner "}, {"COMP_WORDS": "a", "COMP_CWORD": "x"}):
        assert not complete_quickly("bash", environ, SHARED)
    assert capsys.readouterr().out == ""
