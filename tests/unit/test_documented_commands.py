"""Every command line in the documentation has a command that exists, and options that it has."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from modelrunner.cli.by_typer import parser as typer_parser
from modelrunner.cli.parser.command_table import ALIASES, COMMANDS

ROOT = Path(__file__).parents[2]
SKILL = ROOT / "modelrunner" / "agents" / "SKILL.md"
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", SKILL),
    *sorted((ROOT / "docs").rglob("*.md")),
]

_CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(
    r"(?:^|[\s(;&|/])modelrunner((?: +(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s|;&>)'\"]+))+)"
)
_END = {"#", "--", "\\"}


def documented(page: Path) -> Iterator[list[str]]:
    """The words behind `modelrunner`, of every command line on a page."""
    for block, span in _CODE.findall(page.read_text("utf-8").replace("\\\n", " ")):
        for line in (block or span).splitlines():
            for found in _COMMAND.finditer(line):
                words = found[1].split()
                ends = [at for at, word in enumerate(words) if word in _END]
                yield words[: ends[0]] if ends else words


@cache
def parser() -> Any:
    return typer_parser()


@cache
def options(name: str | None) -> set[str]:
    root = parser()
    context = root.context_class(root, info_name="modelrunner")
    command = root if name is None else root.get_command(context, name)
    return {
        option
        for parameter in command.get_params(command.context_class(command, info_name=name))
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


def faults(words: list[str]) -> Iterator[str]:
    line = " ".join(["modelrunner", *words])
    name = next((word for word in words if not word.startswith("-")), None)
    # words that stand for any command, and the name of this program elsewhere
    if name is not None and not re.fullmatch(r"[a-z][a-z-]*", name):
        return
    if name is not None and name not in {*COMMANDS, *ALIASES, "purge"}:
        yield f"{line}: no command {name}"
        return
    known = options(None) | (options(name) if name not in (None, "purge") else set())
    for word in words:
        option = re.match(r"-{1,2}[a-zA-Z][\w-]*", word)
        # `-q` may stand with others, and what follows a sign is no option
        if option is not None and option[0] not in known:
            yield f"{line}: no option {option[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_of_the_documentation_exist(page: Path) -> None:
    assert [fault for words in documented(page) for fault in faults(words)] == []


def test_many_commands_are_checked() -> None:
    found = [words[0] for page in PAGES for words in documented(page)]
    assert len(found) > 150
    # each command has a place in the documentation
    shown = {name for name, entry in COMMANDS.items() if not entry.hidden}
    assert shown - {*found} == set()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["pull", "--lockd"], "modelrunner pull --lockd: no option --lockd"),
        (["fetch", "ai/x"], "modelrunner fetch ai/x: no command fetch"),
        (["--jason", "list"], "modelrunner --jason list: no option --jason"),
    ],
)
def test_what_does_not_exist_is_found(words: list[str], fault: str) -> None:
    assert [*faults(words)] == [fault]
