"""Gzip and zstd, undone: what has many parts, and what only pretends to be much."""

import gzip
import sys
from importlib import import_module

import pytest

from modelrunner.archives.compression import packing_of, unpacked

ZSTD = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
PACK = {"gzip": gzip.compress, "zstd": ZSTD.compress}


class DamagedError(Exception):
    """What was said to be damaged."""


def undone(packed: bytes) -> bytes:
    rest = memoryview(packed)

    def read(size: int) -> bytes:
        nonlocal rest
        found, rest = rest[:size], rest[size:]
        return bytes(found)

    how = packing_of(packed[:4])
    assert how is not None
    return b"".join(unpacked(read, how, DamagedError))


@pytest.mark.parametrize("how", PACK)
def test_parts_follow_each_other(how):
    pack = PACK[how]
    assert packing_of(pack(b"")[:4]) == how
    assert undone(pack(b"one ") + pack(b"") + pack(b"two")) == b"one two"
    # as pigz and pzstd write: many parts, none of them tiny
    assert undone(b"".join(pack(bytes(2048)) for _ in range(12_000))) == bytes(2048 * 12_000)


@pytest.mark.parametrize("how", PACK)
@pytest.mark.parametrize("content", [b"", b"x"])
def test_parts_that_are_tiny_are_counted(how, content):
    pack = PACK[how]
    assert undone(pack(content) * 9_999) == content * 9_999
    with pytest.raises(
        DamagedError, match=r"is packed in more than 100\d\d parts, most of them tiny"
    ):
        undone(pack(content) * 11_000)


@pytest.mark.parametrize("how", PACK)
def test_what_is_cut_or_other(how):
    whole = PACK[how](b"some text, long enough")
    with pytest.raises(DamagedError, match="ends in the middle"):
        undone(whole[:-6])
    with pytest.raises(DamagedError, match=f"is not {how}"):
        undone(whole + b"neither the one nor the other")
    assert packing_of(b"text") is None
