"""YAML out of plain values: mappings, lists, text, numbers; for readers, with comments.

YAML takes JSON's quoted text, so that is how text is written, unless it is a plain word. A key that
begins with `#` is a comment, and its value is what it says.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "str | int | bool | Mapping[str, Value] | Sequence[Value]"

_WIDTH = 80
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


def _block(value: Mapping[str, Value] | Sequence[Value]) -> Iterator[str]:
    if not isinstance(value, Mapping):
        for entry in value:
            yield from _item(entry)
        return
    for key, entry in value.items():
        if key.startswith("#"):
            yield _comment(str(entry))
        else:
            yield from _entry(f"{scalar(key)}:", entry)


def _entry(key: str, value: Value) -> Iterator[str]:
    if isinstance(value, str) and _is_text(value):
        yield f"{key} |"
        yield from (f"  {each}" for each in value.splitlines())
    elif isinstance(value, str | int):
        yield f"{key} {scalar(value)}"
    else:
        line = _inline(value)
        if line is not None and (not value or len(f"{key} {line}") <= _WIDTH):
            yield f"{key} {line}"
        else:
            yield key
            yield from (f"  {each}" for each in _block(value))


def _item(value: Value) -> Iterator[str]:
    if isinstance(value, str | int):
        yield f"- {scalar(value)}"
        return
    lines = list(_block(value)) or [_inline(value) or ""]
    yield f"- {lines[0]}"
    yield from (f"  {line}" for line in lines[1:])


def _inline(value: Value) -> str | None:
    """A value on one line; None for what is more than a list of words."""
    if isinstance(value, str | int):
        return scalar(value)
    if isinstance(value, Mapping):
        return None if value else "{}"
    words = [scalar(each) for each in value if isinstance(each, str | int)]
    return f"[{', '.join(words)}]" if len(words) == len(value) else None


def _is_text(value: str) -> bool:
    """Whether it has lines, each of which can stand as it is."""
    lines = value.split("\n")
    return (
        len(lines) > 1
        and not lines.pop()
        and all(line.isprintable() and line[:1].isalnum() for line in lines)
    )


def _comment(text: str) -> str:
    return f"# {text}"
