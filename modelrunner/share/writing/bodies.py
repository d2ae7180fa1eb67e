"""The body of a request, as it arrives: of a length that is said, or in chunks."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from io import BufferedIOBase

from modelrunner.share.repositories import RefusalError
from modelrunner.wire import parse_count

_BLOCK = 1024 * 1024
_LINE = 1024
_DRAINED = 8 * 1024 * 1024
"""Bytes of a body that nobody wants and that are read all the same."""
_MOST_TRAILERS = 32


def body_of(headers: Mapping[str, str], stream: BufferedIOBase) -> Iterator[bytes]:
    """The bytes of a body.

    Args:
        headers: By lower-case name.
        stream: What follows them.

    Raises:
        RefusalError: It is malformed, or ends too early.
    """
    coding = headers.get("transfer-encoding", "").strip().lower()
    if coding and coding != "chunked":
        raise _malformed("unsupported transfer encoding")
    if coding:
        yield from _chunks(stream)
        return
    length = parse_count(headers.get("content-length", "0").strip())
    if length is None:
        raise _malformed("invalid Content-Length")
    yield from _exactly(stream, length)


def all_read(body: Iterator[bytes]) -> bool:
    """Read what is left of a body, unless it is much; whether nothing is left."""
    read = 0
    try:
        for block in body:
            read += len(block)
            if read > _DRAINED:
                return False
    except (RefusalError, OSError):
        return False
    return True


def _chunks(stream: BufferedIOBase) -> Iterator[bytes]:
    while True:
        line = stream.readline(_LINE)
        text = line.partition(b";")[0].strip().decode("ascii", "replace")
        is_one = text and len(text) <= 15 and all(c in "0123456789abcdefABCDEF" for c in text)  # noqa: PLR2004
        if not line.endswith(b"\n") or not is_one:
            raise _malformed("invalid chunk")
        # bounded: fifteen digits
        size = int(text, 16)
        if not size:
            break
        yield from _exactly(stream, size)
        if stream.readline(_LINE).strip():
            raise _malformed("invalid chunk")
    for _trailer in range(_MOST_TRAILERS):
        if not stream.readline(_LINE).strip():
            return
    raise _malformed("too many trailers")


def _exactly(stream: BufferedIOBase, count: int) -> Iterator[bytes]:
    while count:
        block = stream.read(min(count, _BLOCK))
        if not block:
            raise _malformed("the body ends too early")
        yield block
        count -= len(block)


def _malformed(reason: str) -> RefusalError:
    return RefusalError(HTTPStatus.BAD_REQUEST, "BLOB_UPLOAD_INVALID", reason)
