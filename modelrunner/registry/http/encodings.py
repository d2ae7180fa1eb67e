"""Encodings of a body that were not requested: undone, or found not to be applied.

Every request says `Accept-Encoding: identity`. Servers compress all the same, and others label what
they have not compressed, or what is compressed by itself (`model.tar.gz`). What the bytes are
decides; which of them are right is for the digest to say.
"""

import zlib
from collections.abc import Callable

from modelrunner.errors import InterruptedTransferError
from modelrunner.registry.http.connections import Response

_AUTOMATIC = 47
"""zlib's word for: gzip or zlib, as the first bytes say."""

_BLOCK = 64 * 1024
_HEADER = 2
_GZIP = b"\x1f\x8b"
_ZLIB_METHOD, _ZLIB_CHECK = 8, 31


def is_encoded(response: Response) -> bool:
    """Whether the body is labeled with an encoding that was not requested."""
    return response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")


def as_meant(body: bytes, limit: int) -> bytes:
    """Return what a labeled body stands for: decoded where it can be, else as it was sent.

    At most `limit` bytes and one more come out.
    """
    if not _looks_compressed(body):
        return body
    try:
        return zlib.decompressobj(_AUTOMATIC).decompress(body, limit + 1)
    except zlib.error:
        return body


def decoding_reader(read: Callable[[int], bytes], label: str) -> Callable[[memoryview], int]:
    """A function that fills a buffer from a labeled body; 0 at the end.

    Args:
        read: Gives the next bytes as they were sent, up to a number; none at the end.
        label: Who sends them, for messages.
    """
    begun = False
    inflate: zlib._Decompress | None = None
    held = b""

    def fill(buffer: memoryview) -> int:
        nonlocal begun, inflate, held
        if not begun:
            begun = True
            while len(held) < _HEADER and (more := read(_HEADER)):
                held += more
            inflate = zlib.decompressobj(_AUTOMATIC) if _looks_compressed(held) else None
        if inflate is None:
            block = held or read(len(buffer))
            held = block[len(buffer) :]
            block = block[: len(buffer)]
        else:
            block = b""
            while not block and not inflate.eof:
                held = held or read(_BLOCK)
                if not held:
                    raise InterruptedTransferError(
                        f"{label}: unexpected end of a compressed answer"
                    )
                try:
                    block = inflate.decompress(held, len(buffer))
                except zlib.error as exc:
                    raise InterruptedTransferError(
                        f"{label}: a compressed answer is damaged"
                    ) from exc
                held = inflate.unconsumed_tail
        buffer[: len(block)] = block
        return len(block)

    return fill


def _looks_compressed(body: bytes) -> bool:
    if len(body) < _HEADER:
        return False
    return body.startswith(_GZIP) or (
        body[0] & 15 == _ZLIB_METHOD and (body[0] * 256 + body[1]) % _ZLIB_CHECK == 0
    )
