"""The body of a blob's response: where it starts, as it proves itself, and its bytes.

Bytes are read straight from the connection into the caller's buffer. urllib3's own `read` makes a
new object for each block and copies it, which at several gigabytes a second is most of the work.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPResponse
from typing import TYPE_CHECKING

from modelrunner.errors import RangesUnsupportedError, SizeMismatchError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.registry.narrow import narrowed

if TYPE_CHECKING:
    import requests


def start_of(
    response: "requests.Response",
    wanted: tuple[int, int | None],
    descriptor: Descriptor,
    what: str,
) -> int:
    """Where the body begins.

    Args:
        response: A successful one.
        wanted: The first byte that was asked for, and the one after the last; None for the end.
        descriptor: The blob.
        what: What was asked for, as people name it.

    Raises:
        RangesUnsupportedError: It is not the part that was asked for.
        SizeMismatchError: The whole has another size.
    """
    offset, stop = wanted
    if response.status_code == HTTPStatus.OK:
        length = response.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and not is_encoded(response):
            _check_total(int(length), descriptor, what)
        if offset:
            raise RangesUnsupportedError(f"{what}: a part was asked for, the whole comes")
        return 0
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    first, _, last = span.partition("-")
    if unit != "bytes" or not all(text.isascii() and text.isdigit() for text in (first, last)):
        raise RangesUnsupportedError(f"{what}: a part of the blob came, but not which")
    if total.isascii() and total.isdigit():
        _check_total(int(total), descriptor, what)
    end = descriptor.size if stop is None else stop
    if int(first) != offset or int(last) > end - 1:
        raise RangesUnsupportedError(
            f"{what}: asked for bytes {offset} to {end - 1}, got {int(first)} to {int(last)}"
        )
    if is_encoded(response):
        raise RangesUnsupportedError(f"{what}: a part of the blob came encoded")
    return offset


def is_encoded(response: "requests.Response") -> bool:
    """Whether the body has an encoding that nobody asked for."""
    return response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")


def reader(response: "requests.Response", label: str) -> Callable[[memoryview], int]:
    """A function that fills a buffer from the body; 0 at the end."""
    plain = not is_encoded(response) and not response.raw.chunked
    below: HTTPResponse | None = getattr(response.raw, "_fp", None)
    if plain and below is not None:

        def read_directly(buffer: memoryview) -> int:
            with narrowed(label):
                count = below.readinto(buffer)
            if count == 0 or below.isclosed():
                # read to its end: the connection can serve the next request
                response.raw.release_conn()
            return count

        return read_directly

    def read(buffer: memoryview) -> int:
        # an encoding only if the server forces one on us; undone, it counts
        with narrowed(label):
            block: bytes = response.raw.read(len(buffer), decode_content=True)
        buffer[: len(block)] = block
        return len(block)

    return read


def breaker(response: "requests.Response") -> Callable[[], None]:
    """A function that breaks the connection off, wherever a read is waiting."""
    connection = response.raw.connection
    sock = getattr(connection, "sock", None)

    def abort() -> None:
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    return abort


def _check_total(total: int, descriptor: Descriptor, what: str) -> None:
    if total != descriptor.size:
        raise SizeMismatchError(
            f"{what}: the manifest promises {descriptor.size} bytes, the server has {total}",
            hint="the registry's copy is damaged; nothing of it was stored",
            expected_bytes=descriptor.size,
            got_bytes=total,
            digest=str(descriptor.digest),
        )
