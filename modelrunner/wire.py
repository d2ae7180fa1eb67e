"""Numbers and JSON that a stranger sends: parsed here, with bounds, and nowhere else.

Python turns a number of four thousand digits into an integer that no system call takes, and fails
on one of five thousand; its JSON decoder fails on deep nesting with an error of its own. Here each
of them is a value in bounds, or a `ValueError`.
"""

import json
from typing import Any, NoReturn

LARGEST = 2**63 - 1
"""The largest number that a file's length, an offset or a counter can be."""

MAX_DEPTH = 100
"""Levels of objects and lists in a document; no API answers with a tenth of it."""

_MOST_DIGITS = 19
_FEW_DIGITS = 20
_INFINITE = float("inf")
_SHAPES = bytes.maketrans(b"123456789E-", b"000000000e+")
_UNUSUAL = (b"0" * (_FEW_DIGITS + 1), b"e000", b"e+000", b"\0")
"""What a document without a number out of bounds seldom has, and one with such a number always.

The last is for UTF-16 and UTF-32, which the decoder takes too, and which have a zero in each digit.
"""


def parse_count(text: str) -> int | None:
    """Return the number that a header or a name gives, None for anything but 0 to 2^63-1."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        return None
    number = int(text)
    return number if number <= LARGEST else None


def parse_json(raw: bytes | bytearray | str) -> Any:  # noqa: ANN401 - whatever JSON can be
    """Return the value of a JSON document.

    Raises:
        ValueError: It is not JSON, nested deeper than `MAX_DEPTH`, or has a number that is not
            finite or has more than twenty digits before the point.
    """
    try:
        # a function for each number is most of the time that a document of numbers takes
        value = (
            json.loads(raw, parse_constant=_refuse, parse_int=_integer, parse_float=_finite)
            if _may_have_unusual_numbers(raw)
            else json.loads(raw, parse_constant=_refuse)
        )
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if _is_deep(value):
        raise ValueError("JSON nested too deeply")
    return value


def parse_document(raw: bytes | bytearray | str) -> Any:  # noqa: ANN401 - whatever JSON can be
    """Return the value of a JSON document of which single fields are read, each with a check.

    What nobody reads of a manifest or a config may be out of bounds.

    Raises:
        ValueError: It is not JSON, or Python cannot hold it.
    """
    try:
        return json.loads(raw)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def parse_object(raw: bytes | bytearray | str) -> dict[str, Any]:
    """Return the object that a JSON document is.

    Raises:
        ValueError: As with `parse_json`, or it is another value.
    """
    value = parse_json(raw)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - callers catch one type
    return value


def _may_have_unusual_numbers(raw: bytes | bytearray | str) -> bool:
    encoded = raw.encode(errors="surrogatepass") if isinstance(raw, str) else raw
    shapes = encoded.translate(_SHAPES)
    return any(each in shapes for each in _UNUSUAL)


def _integer(text: str) -> int:
    if len(text) > _FEW_DIGITS:
        raise ValueError("number with too many digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not abs(number) < _INFINITE:
        raise ValueError("number too large")
    return number


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = (
            [
                child
                for node in level
                for child in (node.values() if isinstance(node, dict) else node)  # type: ignore[attr-defined]
                if isinstance(child, dict | list)
            ]
            if level and isinstance(level[0], dict | list)
            else []
        )
        if not level:
            return False
    return True
