"""YAML out of plain values: mappings, lists, text, numbers; for readers, with comments.

YAML takes JSON's quoted text, so that is how text is written, unless it is a plain word. A key that
begins with `#` is a comment, and its value is what it says.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "str | int | bool | Mapping[str, Value] | Sequence[Value]"

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
# what some reader of YAML takes for something else than text
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def document(value: Mapping[str, Value], comments: Sequence[str] = ()) -> str:
    """A document with comments before it."""
    return "".join(f"{line}\n" for line in [*map(_comment, comments), *_block(value)])


def scalar(value: str | int) -> str:
    """A value on one line, in quotes where it is not a plain word or a number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(mark: str) -> str:
    if mark in _ESCAPES:
        return _ESCAPES[mark]
    # YAML 1.2, 5.1: what is not printable has to be escaped; nor is a byte order mark welcome
    return mark if mark.isprintable() else f"\\U{ord(mark):08x}"


def _block(value: Value) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key.startswith("#"):
                yield _comment(str(entry))
            else:
                yield from _entry(f"{scalar(key)}:", entry)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for entry in value:
            yield from _item(entry)


def _entry(key: str, value: Value) -> Iterator[str]:
    if isinstance(value, str) and _is_text(value):
        yield f"{key} |"
        yield from (f"  {line}" for line in value.splitlines())
    elif isinstance(value, str | int):
        yield f"{key} {scalar(value)}"
    elif not value:
        yield f"{key} {'{}' if isinstance(value, Mapping) else '[]'}"
    elif not isinstance(value, Mapping) and all(isinstance(each, str | int) for each in value):
        yield from _list(key, [scalar(each) for each in value if isinstance(each, str | int)])
    else:
        yield key
        yield from (f"  {line}" for line in _block(value))


def _is_text(value: str) -> bool:
    """Whether it has lines, each of which can stand as it is."""
    lines = value.split("\n")
    return (
        len(lines) > 1
        and not lines.pop()
        and all(line.isprintable() and line[:1].isalnum() for line in lines)
    )


def _list(key: str, words: Sequence[str]) -> Iterator[str]:
    """A list of words on a line, or each on its own where that gets long."""
    line = f"{key} [{', '.join(words)}]"
    if len(line) <= 80:  # noqa: PLR2004 - what a terminal shows
        yield line
    else:
        yield key
        yield from (f"  - {word}" for word in words)


def _item(value: Value) -> Iterator[str]:
    lines = [scalar(value)] if isinstance(value, str | int) else list(_block(value))
    yield f"- {lines[0]}"
    yield from (f"  {line}" for line in lines[1:])


def _comment(text: str) -> str:
    return f"# {text}"
