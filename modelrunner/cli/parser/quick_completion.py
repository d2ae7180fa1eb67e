"""Completion of usual lines, without Typer, which takes longer to load than a Tab should.

Names of commands, and what an argument or an option of one takes, behind words that `quick` would
understand. Everything else is left to Typer, which has the same candidates: a test compares them.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from modelrunner.cli.parser.command_table import ALIASES, COMMANDS, GROUPS, load
from modelrunner.cli.parser.completion import (
    Completer,
    candidates_line,
    commands,
    completer_for,
    images_of_runtimes,
)
from modelrunner.cli.parser.declared import Argument, Option, Parameter
from modelrunner.errors import ModelRunnerError

if TYPE_CHECKING:
    from typer import Context

_QUOTES = frozenset("'\"\\")
_OF_THE_LINE: tuple[Completer, ...] = (commands, images_of_runtimes)
"""Completers that ask what else is on the line."""


class _Place(NamedTuple):
    """The part of Typer's context that completers use."""

    info_name: str


def complete_quickly(
    shell: str, environ: Mapping[str, str], shared: Sequence[Parameter] = ()
) -> bool:
    """Print the candidates at the cursor; return False, with nothing printed, for other lines.

    Args:
        shell: The requesting shell.
        environ: The environment, in which its script sends the line.
        shared: What all commands take.
    """
    line, at = environ.get("COMP_WORDS", ""), environ.get("COMP_CWORD", "")
    if not line.isascii() or _QUOTES & set(line) or not at.isdecimal() or at == "0":
        return False
    words, position = line.split(), int(at)
    before = words[1:position]
    begun = words[position] if position < len(words) else ""
    if begun.startswith(("-", "=")) or position > len(words):
        return False
    if not before:
        names = [name for group in GROUPS.values() for name in group if name.startswith(begun)]
        _print([candidates_line(shell, name, COMMANDS[name].summary) for name in names])
        return True
    completer = _completer(before, shared)
    if completer is None or completer in _OF_THE_LINE:
        return False
    try:
        found = completer(cast("Context", _Place(before[0])), begun)
    except (ModelRunnerError, OSError, LookupError, ValueError):
        # what cannot be read is said when the command is run
        found = []
    _print([candidates_line(shell, value) for value in found])
    return True


def _print(lines: Sequence[str]) -> None:
    # own text: for a shell, which takes no escape sequences
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _completer(words: Sequence[str], shared: Sequence[Parameter]) -> Completer | None:
    """What completes the word behind a command and its words; None where Typer has to say."""
    name, *given = words
    if ALIASES.get(name, name) not in COMMANDS:
        return None
    command = load(name)
    if command is None:
        return None
    arguments: list[Parameter] = []
    flags: set[str] = set()
    options: dict[str, Parameter] = {}
    for entry in (*command.parameters(), *shared):
        declared = entry.declaration
        if isinstance(declared, Argument):
            arguments.append(entry)
        elif isinstance(declared, Option):
            names = declared.names or (f"--{entry.name.replace('_', '-')}",)
            if entry.kind is bool:
                flags.update(names)
            else:
                options |= dict.fromkeys(names, entry)
    place = _at_end(given, arguments, flags, options)
    if place is None or place.declaration is None:
        return None
    return completer_for(place.name, place.declaration.metavar)


def _at_end(
    words: Sequence[str],
    arguments: Sequence[Parameter],
    flags: set[str],
    options: Mapping[str, Parameter],
) -> Parameter | None:
    """The parameter that the next word is of; None where that is not plain to see."""
    left, count = list(words), 0
    while left:
        word = left.pop(0)
        if word in options:
            if not left:
                return options[word]
            if left.pop(0).startswith("-"):
                return None
        elif word.startswith("-"):
            name, equals, _ = word.partition("=")
            if word not in flags and not (equals and name.startswith("--") and name in options):
                return None
        else:
            count += 1
    for argument in arguments:
        if argument.many or count == 0:
            return argument
        count -= 1
    return None
