"""What gzip or zstd has packed, undone piece by piece; nothing of it is trusted.

Both may have several parts, one behind the other: members of gzip, frames of zstd. A part costs
more than its bytes do, so there may be no more of them than what they unpack to explains.
"""

import importlib
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

Packing = Literal["gzip", "zstd"]

_CHUNK = 1024 * 1024
_PACKED = 64 * 1024
"""Packed bytes that are read at once: what follows a part of them is copied for each part."""

_PARTS, _OF_A_PART = 10_000, 1024
"""So many parts may be of any size; more of them have so many bytes on average."""

_MAGIC: dict[bytes, Packing] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
HEAD = 4
"""Bytes that tell how something is packed."""


def packing_of(head: bytes) -> Packing | None:
    """Return how bytes are packed that begin so; None for what is not, or in another way."""
    return next((how for magic, how in _MAGIC.items() if head.startswith(magic)), None)


def unpacked(
    read: Callable[[int], bytes], how: Packing, damaged: Callable[[str], Exception]
) -> Iterator[bytes]:
    """Return what was packed, in pieces of up to a megabyte.

    Args:
        read: Returns packed bytes, up to a number of them, none at the end.
        how: How they are packed.
        damaged: Makes the error for what is wrong, such as `is not gzip`.
    """
    undo = _by_gzip if how == "gzip" else _by_zstd
    parts = _Parts(damaged)
    for piece in undo(read, damaged, parts):
        parts.count += len(piece)
        yield piece


class _Parts:
    """How many parts there were.

    Attributes:
        count: The bytes that came out of them.
    """

    def __init__(self, damaged: Callable[[str], Exception]) -> None:
        self._damaged = damaged
        self._parts = 0
        self.count = 0

    def begin(self) -> None:
        """Note one more; raises where they are too many."""
        self._parts += 1
        if self._parts > _PARTS + self.count // _OF_A_PART:
            raise self._damaged(
                f"is packed in more than {self._parts - 1} parts, most of them tiny"
            )


def _by_gzip(
    read: Callable[[int], bytes], damaged: Callable[[str], Exception], parts: _Parts
) -> Iterator[bytes]:
    chunk = read(_PACKED)
    while chunk:
        parts.begin()
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            try:
                piece = member.decompress(chunk, _CHUNK)
            except zlib.error as exc:
                raise damaged("is not gzip") from exc
            chunk = member.unconsumed_tail
            if not chunk and not member.eof:
                chunk = read(_PACKED)
                if not chunk and not piece:
                    raise damaged("ends in the middle")
            yield piece
        chunk = (member.unused_data or read(_PACKED)).lstrip(b"\0")


def _by_zstd(
    read: Callable[[int], bytes], damaged: Callable[[str], Exception], parts: _Parts
) -> Iterator[bytes]:
    zstd = _zstd()
    chunk = read(_PACKED)
    while chunk:
        parts.begin()
        frame = zstd.ZstdDecompressor()
        while not frame.eof:
            try:
                piece = frame.decompress(chunk, max_length=_CHUNK)
            except zstd.ZstdError as exc:
                raise damaged("is not zstd") from exc
            chunk = b""
            if frame.needs_input and not frame.eof:
                chunk = read(_PACKED)
                if not chunk:
                    raise damaged("ends in the middle")
            yield piece
        chunk = frame.unused_data or read(_PACKED)


def _zstd() -> Any:  # noqa: ANN401 - a module
    """The module for zstd: the standard library's, or what brings it to an older Python."""
    # little is packed with it
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name)
