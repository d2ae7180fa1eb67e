"""`context` of generate: the conversation so far, as numbers that a client sends back.

Ollama has tokens there, which clients pass on unread. Ours are the compressed messages, three bytes
a number: nothing is kept between requests, and each model can go on with them.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from modelrunner.serve.bodies.fields import InvalidBodyError
from modelrunner.wire import parse_json

_MAGIC = 0x6D7231
"""The first number: `mr1`."""

_BYTES = 3
_LARGEST = 256**_BYTES
_MOST_WRITTEN = 256 * 1024
"""Bytes of a conversation that is written: of a longer one it would take others' time."""

_MOST_READ = 4 * 1024 * 1024

Message = Mapping[str, Any]


def encoded(messages: Sequence[Message]) -> list[int] | None:
    """The numbers of a conversation; None where it is too long."""
    raw = json.dumps(list(messages), separators=(",", ":")).encode()
    if len(raw) > _MOST_WRITTEN:
        return None
    packed = zlib.compress(raw)
    padded = packed + bytes(-len(packed) % _BYTES)
    numbers = [
        int.from_bytes(padded[at : at + _BYTES], "big") for at in range(0, len(padded), _BYTES)
    ]
    return [_MAGIC, len(packed), *numbers]


def decoded(numbers: object) -> list[Message]:
    """The conversation of some numbers.

    Raises:
        InvalidBodyError: They are not ours.
    """
    if numbers is None or numbers == []:
        return []
    try:
        return _decoded(numbers)
    except (ValueError, TypeError, zlib.error) as exc:
        raise InvalidBodyError(
            "`context` is not from this server: start the conversation again", "invalid_context"
        ) from exc


def _decoded(numbers: object) -> list[Message]:
    if not isinstance(numbers, list) or numbers[:1] != [_MAGIC]:
        raise ValueError
    size, *rest = numbers[1:]
    if not all(type(each) is int and 0 <= each < _LARGEST for each in rest):
        raise ValueError
    packed = b"".join(each.to_bytes(_BYTES, "big") for each in rest)
    if type(size) is not int or not 0 <= size <= len(packed):
        raise ValueError
    opened = zlib.decompressobj()
    raw = opened.decompress(packed[:size], _MOST_READ)
    if not opened.eof:
        raise ValueError
    found = parse_json(raw)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError
    return found
