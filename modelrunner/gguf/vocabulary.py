"""Which texts are control tokens of a model's vocabulary, out of the header of its GGUF file.

`modelrunner.gguf.reader` skips vocabularies, which have a quarter of a million tokens; here they
are walked over once, and only what is looked for is kept.
"""

import struct
from collections.abc import Collection
from pathlib import Path

from modelrunner.disk.inside import open_content
from modelrunner.gguf.header import Header

_TOKENS, _TYPES = b"tokenizer.ggml.tokens", b"tokenizer.ggml.token_type"
_ARRAY, _INT32, _UINT32, _STRING = 9, 5, 4, 8
_HEAD = struct.Struct("<IIQ")
_LENGTH = struct.Struct("<Q")
_CONTROL = 3
_LONGEST_HEADER = 64 * 1024 * 1024


def control_tokens(path: Path, header: Header, wanted: Collection[str]) -> frozenset[str]:
    """Return those of the wanted texts that are control tokens; none where that cannot be read.

    Args:
        path: The file that the header is of.
        header: Says where the tensors begin.
        wanted: The texts to look for.
    """
    try:
        with open_content(path) as file:
            raw = file.content(min(header.data_offset, _LONGEST_HEADER))
        numbers = _numbers(raw, {text.encode(): text for text in wanted})
        kinds, start, count = _array(raw, _TYPES)
        if kinds not in (_INT32, _UINT32):
            return frozenset()
        return frozenset(
            text
            for text, number in numbers.items()
            if number < count and struct.unpack_from("<I", raw, start + 4 * number)[0] == _CONTROL
        )
    except (OSError, ValueError, struct.error):
        return frozenset()


def _numbers(raw: bytes, wanted: dict[bytes, str]) -> dict[str, int]:
    """Return the numbers of the tokens that are wanted."""
    kind, at, count = _array(raw, _TOKENS)
    if kind != _STRING:
        return {}
    longest = max(map(len, wanted), default=0)
    found = {}
    for number in range(count):
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if length <= longest and (text := wanted.get(raw[at : at + length])) is not None:
            found[text] = number
        at += length
    return found


def _array(raw: bytes, key: bytes) -> tuple[int, int, int]:
    """Return the type, the place and the number of the items at a key.

    Raises:
        ValueError: There is no array at this key.
    """
    named = _LENGTH.pack(len(key)) + key
    at = raw.index(named) + len(named)
    kind, item, count = _HEAD.unpack_from(raw, at)
    if kind != _ARRAY:
        raise ValueError(key)
    return item, at + _HEAD.size, count
