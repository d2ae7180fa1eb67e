"""The answer to a request for a blob: a stream of its bytes, or the error that it stands for.

Bytes are read straight from the connection into the caller's buffer. urllib3's own `read` makes a
new object for each block and copies it, which at several gigabytes a second is most of the work.

The same for everything that is spoken to over HTTP: a registry, and the Hugging Face Hub.
"""

import socket
import sys
from array import array
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from modelrunner.errors import (
    InterruptedTransferError,
    ModelRunnerError,
    PartRefusedError,
    RangesUnsupportedError,
    SizeMismatchError,
)
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.registry.http.connections import Response
from modelrunner.registry.http.destinations import origin
from modelrunner.registry.http.direct.answer import Answer
from modelrunner.registry.http.encodings import decoding_reader, is_encoded
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.errors import network_errors
from modelrunner.registry.http.responses import web_page
from modelrunner.registry.source import BlobStream
from modelrunner.wire import parse_count

if sys.platform != "win32":
    import fcntl
    import termios

if TYPE_CHECKING:
    from http.client import HTTPResponse

_HELD = 64 * 1024
"""More than the buffer of the file over a socket."""


def start_of(
    response: Response,
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
    if response.status == HTTPStatus.OK:
        length = parse_count(response.headers.get("Content-Length", "").strip())
        if length is not None and not is_encoded(response):
            _check_total(length, descriptor, what)
        if offset:
            raise RangesUnsupportedError(f"{what}: requested a byte range, got the whole blob")
        return 0
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    first, last = (parse_count(text.strip()) for text in (span + "-").split("-")[:2])
    if unit != "bytes" or first is None or last is None:
        raise RangesUnsupportedError(f"{what}: missing or invalid Content-Range in the answer")
    whole = parse_count(total.strip())
    if whole is not None:
        _check_total(whole, descriptor, what)
    end = descriptor.size if stop is None else stop
    if first != offset or last > end - 1:
        raise RangesUnsupportedError(
            f"{what}: expected bytes {offset} to {end - 1}, got {first} to {last}"
        )
    if is_encoded(response) and not _is_as_stored(response, last - first + 1):
        raise RangesUnsupportedError(f"{what}: a byte range was sent with a content encoding")
    return offset


def reader(response: Response, label: str, size: int | None = None) -> Callable[[memoryview], int]:
    """A function that fills a buffer from the body; 0 at the end.

    Args:
        response: The answer.
        label: Who sends it, for messages.
        size: The bytes that the body is to have; where it is announced with as many, they are
            taken as they are sent, whatever encoding their label names.
    """
    as_sent = (
        not is_encoded(response)
        or response.status == HTTPStatus.PARTIAL_CONTENT
        or (size is not None and _is_as_stored(response, size))
    )
    raw = response.raw
    if as_sent and isinstance(raw, Answer):
        return AnswerReader(raw, label)
    below: HTTPResponse | None = getattr(raw, "_fp", None)
    if as_sent and not raw.chunked and below is not None:
        sock = _socket(response)
        if below.length and sock is not None:
            return SocketReader(response, below, sock, label)

        def read_directly(buffer: memoryview) -> int:
            with network_errors(label, reading=True):
                count = below.readinto(buffer)
            if count == 0 or below.isclosed():
                # read to its end: the connection can serve the next request
                raw.release_conn()
            return count

        return read_directly

    def read(most: int) -> bytes:
        with network_errors(label, reading=True):
            block: bytes = raw.read(most, decode_content=False)
        return block

    if not as_sent:
        return decoding_reader(read, label)

    def fill(buffer: memoryview) -> int:
        block = read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    return fill


class AnswerReader:
    """Reads a body that comes straight from a server into the caller's buffer."""

    def __init__(self, answer: Answer, label: str) -> None:
        self._answer = answer
        self._label = label
        self._failure: Exception | None = None

    def __call__(self, buffer: memoryview) -> int:
        """Fill a buffer as far as the body goes; fewer bytes where it breaks off, 0 at the end."""
        count, wanted = 0, len(buffer)
        with network_errors(self._label, reading=True):
            if self._failure is not None:
                raise self._failure
            try:
                read = self._answer.read_into
                while count < wanted and (more := read(buffer[count:])):
                    count += more
            except OSError as exc:
                if not count:
                    raise
                # what has come is kept, and told first
                self._failure = exc
        return count


class SocketReader:
    """Reads a body of known length from the socket into the caller's buffer, without a layer.

    A file over a socket asks for each 16 KiB of a TLS connection through four calls.
    """

    def __init__(
        self, response: Response, below: "HTTPResponse", sock: socket.socket, label: str
    ) -> None:
        self._response = response
        self._below = below
        self._receive = sock.recv_into
        self._label = label
        self._left = below.length or 0
        self._held: memoryview | None = None
        self._failure: Exception | None = None

    def __call__(self, buffer: memoryview) -> int:
        """Fill a buffer as far as the body goes; fewer bytes where it breaks off, 0 at the end."""
        wanted = min(len(buffer), self._left)
        if not wanted:
            return 0
        with network_errors(self._label, reading=True):
            if self._failure is not None:
                raise self._failure
            count = self._take_held(buffer[:wanted])
            try:
                receive = self._receive
                while count < wanted:
                    more = receive(buffer[count:wanted])
                    if not more:
                        break
                    count += more
            except (OSError, ValueError) as exc:
                if not count:
                    raise
                # what has come is kept, and told first
                self._failure = exc
        self._left -= count
        if not self._left:
            self._end()
        return count

    def _take_held(self, buffer: memoryview) -> int:
        """What was read together with the headers."""
        if self._held is None:
            # gives what is in the buffer of the file, all of it, and reads only where that is empty
            self._held = memoryview(self._below.fp.read1(_HELD))
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count

    def _end(self) -> None:
        """The body was read to its end: the connection can serve the next request."""
        if not self._held:
            self._below.length = 0
            # closes the file over the socket, as the last read of it would have
            self._below.read(0)
            self._response.raw.release_conn()


def _socket(response: Response) -> socket.socket | None:
    sock = response.sock
    return sock if hasattr(sock, "recv_into") else None


def waiting(response: Response) -> Callable[[], int]:
    """A function that says how many bytes have come that were not read; 0 where nobody knows."""
    sock = _socket(response)
    if sys.platform == "win32" or sock is None:
        return lambda: 0
    count = array("i", [0])
    held = getattr(sock, "pending", _nothing)

    def ask() -> int:
        try:
            fcntl.ioctl(sock.fileno(), termios.FIONREAD, count)
        except (OSError, ValueError):
            return 0
        return count[0] + held()

    return ask


def _nothing() -> int:
    return 0


def _is_as_stored(response: Response, size: int) -> bool:
    """Whether a labeled body has as many bytes as what is stored: the label is wrong."""
    return parse_count(response.headers.get("Content-Length", "").strip()) == size


def breaker(response: Response) -> Callable[[], None]:
    """A function that breaks the connection off, wherever a read is waiting."""
    sock = response.sock

    def abort() -> None:
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    return abort


def _check_total(total: int, descriptor: Descriptor, what: str) -> None:
    if total != descriptor.size:
        raise SizeMismatchError(
            f"{what}: expected {descriptor.size} bytes, the server has {total}",
            hint="the registry's copy is damaged: report it to its publisher; nothing was stored",
            expected_bytes=descriptor.size,
            got_bytes=total,
            digest=str(descriptor.digest),
        )


_NO_PARTS = (400, 403, 405, 406, 416, 501)
"""What servers answer that know no ranges, or not this one: they are asked for the whole."""

Part = tuple[int, int | None]
"""The first byte, and the one after the last; None for the end."""


def range_header(part: Part, size: int) -> dict[str, str]:
    """The header that asks for a part of this many bytes; none where that is all of them."""
    offset, stop = part
    if offset == 0 and (stop is None or stop >= size):
        return {}
    last = "" if stop is None else str(stop - 1)
    return {"Range": f"bytes={offset}-{last}"}


def blob_stream(
    response: Response,
    part: Part,
    descriptor: Descriptor,
    *,
    what: str,
    endpoint: Endpoint,
    refusal: Callable[[], ModelRunnerError],
) -> BlobStream:
    """The stream of an answer's body.

    Args:
        response: The answer, its body not read yet.
        part: What was asked for.
        descriptor: The blob.
        what: The blob, as people name it.
        endpoint: Who was asked; the answer may come from where that sent us.
        refusal: What another status than a good one means there.

    Raises:
        RangesUnsupportedError: It is another part than was asked for.
        InterruptedTransferError: The address has expired.
        SizeMismatchError: The whole has another size.
        ModelRunnerError: The refusal.
    """
    status = response.status
    home = origin(response.url) == origin(endpoint.base)
    in_part = "Range" in response.sent
    if status == HTTPStatus.FORBIDDEN and not home:
        # a signed address that has run out, for which the next try asks for a new one; or a server
        # that takes ranges for an attack
        host = origin(response.url)[1]
        kind = PartRefusedError if in_part else InterruptedTransferError
        raise kind(
            f"{what}: {host} returned HTTP 403",
            hint=f"{endpoint.label} stores its blobs there: run the command again in case the URL "
            "has expired, or check the proxy; a login does not help",
        )
    if in_part and status in _NO_PARTS:
        raise RangesUnsupportedError(f"{what}: {endpoint.label} does not send this byte range")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise refusal()
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise web_page(what, endpoint.label)
    return BlobStream(
        start_of(response, part, descriptor, what),
        reader(response, endpoint.label, descriptor.size),
        abort=breaker(response),
        waiting=waiting(response),
        arriving=media_types.HEADER_ARRIVING in response.headers,
    )
