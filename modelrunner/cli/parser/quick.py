"""Usual command lines, understood without Typer, which takes longer to load than most commands run.

What is not plain (unknown options, missing or invalid values, clusters of short options, help) is
left to Typer, with its errors: `parse` returns None then. Both read the same declarations, and a
test compares what they understand.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

from modelrunner.cli.parser.declared import Argument, Option, Parameter
from modelrunner.frozen import frozen

_KINDS = (str, int, float)
_MORE = (Enum, os.PathLike)
"""What is made of a word by a type of its own: a choice, a path."""


class _Unusual(Exception):  # noqa: N818 - not an error: the other parser takes over
    """A command line that is not for this parser."""


@frozen
class _Value:
    """A parameter that takes a value.

    Attributes:
        name: Its name.
        read: Returns the value of a word.
        many: Whether it takes several.
    """

    name: str
    read: Callable[[str], Any]
    many: bool


def parse(
    parameters: Iterable[Parameter], words: Sequence[str], rest: str | None = None
) -> dict[str, Any] | None:
    """Return the value of each parameter; None for what Typer has to parse.

    Args:
        parameters: What may be given.
        words: The words behind the name of a command.
        rest: The option that takes each word after `--`.
    """
    known = list(parameters)
    try:
        return _Table(known, rest).parse(words)
    except _Unusual:
        return None


class _Table:
    """The options by name, and the arguments in order."""

    def __init__(self, parameters: Sequence[Parameter], rest: str | None) -> None:
        self._rest = rest
        self._defaults = {entry.name: entry.default for entry in parameters}
        self._flags: dict[str, str] = {}
        self._options: dict[str, _Value] = {}
        self._arguments: list[_Value] = []
        for entry in parameters:
            declared = entry.declaration
            kind, many = entry.kind, entry.many
            if isinstance(declared, Argument):
                self._arguments.append(_Value(entry.name, _reader(kind, None), many))
            elif isinstance(declared, Option):
                names = declared.names or (f"--{entry.name.replace('_', '-')}",)
                if kind is not bool:
                    value = _Value(entry.name, _reader(kind, declared), many)
                    self._options |= dict.fromkeys(names, value)
                elif declared.names:
                    # Typer gives others a `--no-` form
                    self._flags |= dict.fromkeys(names, entry.name)

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        given: list[str] = []
        left = list(words)
        while left:
            word = left.pop(0)
            if word == "--":
                if self._rest is None:
                    raise _Unusual
                for each in left:
                    _put(values, self._options[self._rest], each)
                break
            if word in self._flags:
                values[self._flags[word]] = True
            elif word.startswith("-") and word != "-":
                self._option(values, word, left)
            else:
                given.append(word)
        self._place(values, given)
        found = self._defaults | values
        if ... in found.values():
            raise _Unusual
        return found

    def _option(self, values: dict[str, Any], word: str, left: list[str]) -> None:
        name, equals, text = word.partition("=")
        option = self._options.get(name)
        if option is None or (equals and not name.startswith("--")):
            raise _Unusual
        if not equals:
            if not left or (left[0].startswith("-") and left[0] != "-"):
                raise _Unusual
            text = left.pop(0)
        _put(values, option, text)

    def _place(self, values: dict[str, Any], given: Sequence[str]) -> None:
        """Give the arguments their words, in order."""
        left = list(given)
        for at, argument in enumerate(self._arguments):
            if argument.many and at < len(self._arguments) - 1:
                # which words are whose is for the other parser to say
                raise _Unusual
            taken, left = (left, []) if argument.many else (left[:1], left[1:])
            for word in taken:
                _put(values, argument, word)
        if left:
            raise _Unusual


def _put(values: dict[str, Any], entry: _Value, text: str) -> None:
    if not text:
        raise _Unusual
    try:
        value = entry.read(text)
    except ValueError:
        raise _Unusual from None
    if entry.many:
        values.setdefault(entry.name, []).append(value)
    else:
        values[entry.name] = value


def _reader(kind: Any, option: Option | None) -> Callable[[str], Any]:  # noqa: ANN401 - see above
    """Return what makes a value out of a word, or raises ValueError."""
    low = None if option is None else option.min
    high = None if option is None else option.max

    def read(text: str) -> Any:  # noqa: ANN401 - see above
        if kind not in _KINDS and not (isinstance(kind, type) and issubclass(kind, _MORE)):
            raise _Unusual
        if issubclass(kind, os.PathLike) and os.path.exists(text) and not os.access(text, os.R_OK):  # noqa: PTH110 - Path is not needed for it
            raise _Unusual
        value = kind(text)
        if (low is not None and value < low) or (high is not None and value > high):
            raise _Unusual
        return value

    return read
