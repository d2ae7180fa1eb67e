"""Both parsers understand the same by a command line, wherever the quick one understands it."""

import math
import shlex
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrunner.cli import by_typer
from modelrunner.cli.context import GITHUB, GlobalOptions, Invocation, root_options, shared_options
from modelrunner.cli.parser.command_table import ALIASES, COMMANDS, load
from modelrunner.cli.parser.declared import Argument, Declaration, Option, Parameter, parameters_of
from modelrunner.cli.parser.quick import parse

# one name for each command: others of it have the same declaration
NAMES = sorted({entry.place: name for name, entry in COMMANDS.items()}.values())
ODD = [
    *("--", "-", "", "-qx", "-n3", "--nope", "--json=1", "--quie", "-1", "0", "1", "16", "70000"),
    *("1_0", " 7", "2.5", "nan", "1e3", "x=y", "é", "ai/smollm2", "none", "json", "up", "bash"),
    *("name", "size", "header", "--help", "-h", "-V", "--version", "/nowhere/file", "q8_0"),
]


@cache
def declared(name: str) -> Declaration:
    found = load(name)
    assert found is not None
    return found


@cache
def parameters_for(name: str) -> list[Parameter]:
    """What a command takes, and what all of them take."""
    return [*declared(name).parameters(), *parameters_of(shared_options)]


def quickly(name: str, words: list[str]) -> dict[str, Any] | None:
    return parse(parameters_for(name), words, declared(name).rest)


@cache
def command_of(name: str) -> Any:
    return by_typer.parser().get_command(None, name)


class Performed(Exception):  # noqa: N818 - ends the command before it starts
    pass


def slowly(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Typer hands to a command; fails where it has an error."""
    found: dict[str, Any] = {}

    def keep(_declaration: Declaration, invocation: Invocation, values: dict[str, Any]) -> None:
        found.update(values)
        if declared(name).more:
            found[GITHUB] = invocation.options.github

    monkeypatch.setattr(by_typer, "perform", keep)
    command_of(name).main(words, prog_name=name, standalone_mode=False, obj=Invocation())
    assert found
    return found


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and one == other


def words_of(name: str) -> st.SearchStrategy[list[str]]:
    """Command lines of names that a command has, values, and what is neither."""
    names = [
        spelled
        for entry in parameters_for(name)
        if isinstance(option := entry.declaration, Option)
        for spelled in (option.names or (f"--{entry.name.replace('_', '-')}",))
    ]
    value = st.sampled_from(ODD)
    given_with_value = st.tuples(st.sampled_from(names), value).flatmap(
        lambda pair: st.sampled_from([[*pair], [f"{pair[0]}={pair[1]}"]])
    )
    piece = st.one_of(
        st.sampled_from(names).map(lambda word: [word]), given_with_value, value.map(lambda w: [w])
    )
    return st.lists(piece, max_size=5).map(
        lambda pieces: [word for each in pieces for word in each]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_command_line_means_the_same_to_both_parsers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(words_of(name))
    def compare(words: list[str]) -> None:
        quick = quickly(name, words)
        if quick is not None:
            slow = slowly(name, words, monkeypatch)
            assert quick.keys() == slow.keys()
            assert {
                key: (quick[key], slow[key]) for key in quick if not same(quick[key], slow[key])
            } == {}

    compare()


@pytest.mark.parametrize("name", NAMES)
def test_every_option_means_the_same_to_both_parsers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = parameters_for(name)
    arguments = [entry for entry in parameters if isinstance(entry.declaration, Argument)]
    for entry in parameters:
        if not isinstance(option := entry.declaration, Option):
            continue
        needed = [
            word
            for other in parameters
            if other.default is ... and isinstance(other.declaration, Option) and other is not entry
            for word in (other.declaration.names[0], _word(other))
        ]
        for spelled in option.names or (f"--{entry.name.replace('_', '-')}",):
            tried = [[spelled], *([spelled, word] for word in (_word(entry), "5", "0.5"))]
            understood = [
                line
                for words in tried
                for line in ([*words, *needed], [*words, *needed, *map(_word, arguments)])
                if (quick := quickly(name, line)) is not None
                and quick == slowly(name, line, monkeypatch)
                and quick[entry.name] != entry.default
            ]
            assert understood, spelled


def _word(argument: Parameter) -> str:
    """A valid value."""
    kind = argument.kind
    return str(list(kind)[-1]) if issubclass(kind, Enum) else "name"


def examples() -> list[list[str]]:
    """Every example of a help text, as it is started."""
    found = []
    for name in NAMES:
        block = declared(name).epilog.partition("Examples:\n")[2]
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["modelrunner"] and not {"|", ">", "<(", "&&"} & {*words}:
                found.append(words[1:])
    return found


@pytest.mark.parametrize("words", examples(), ids=" ".join)
def test_an_example_of_a_help_text_needs_no_other_parser(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *rest = words
    found = quickly(ALIASES.get(name, name), rest)
    assert found is not None
    assert found == slowly(name, rest, monkeypatch)


@pytest.mark.parametrize(
    "words",
    [
        ["--nope"],
        ["--help"],
        ["-h"],
        ["--quiet=yes"],
        ["-qx"],
        ["--connections"],
        ["--connections", "17"],
        ["--connections", "many"],
        ["--connections", "-1"],
        ["--progress", "loud"],
        ["--file="],
        ["--", "a"],
        [""],
    ],
    ids=" ".join,
)
def test_what_is_wrong_or_unusual_is_left_to_the_other_parser(words: list[str]) -> None:
    assert quickly("pull", words) is None


def test_an_argument_too_few_or_too_many_is_left_to_the_other_parser() -> None:
    assert quickly("path", []) is None
    assert quickly("path", ["one", "two"]) is None
    assert quickly("path", ["one"]) is not None


def test_words_behind_two_dashes_are_options_where_a_command_passes_them_on() -> None:
    found = quickly("run", ["ai/smollm2", "--", "--top-k", "5"])
    assert found is not None
    assert found["raw_flags"] == ["--top-k", "5"]


def test_a_file_that_may_not_be_read_is_left_to_the_other_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    assert quickly("pull", ["--ca-file", str(file)]) is not None
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    assert quickly("pull", ["--ca-file", str(file)]) is None


def test_options_before_the_name_of_a_command_mean_the_same_to_both_parsers() -> None:
    words = ["--json", "-q", "--progress=plain", "--offline"]
    quick = parse(parameters_of(root_options), words)
    assert quick is not None
    said = Invocation()
    by_typer.parser().main(
        [*words, "--version"], prog_name="modelrunner", standalone_mode=False, obj=said
    )
    options, version = root_options(**quick)
    assert (options, version) == (said.options, False)
    assert options != GlobalOptions()
