"""An answer of HTTP/1.1: its head in parts, and its body as it comes.

Source: RFC 9112. An invalid length, or two that differ, make an answer invalid: where its body ends
would be a guess.
"""

from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

from modelrunner.registry.http.direct.link import BrokenAnswerError, InvalidAnswerError, Link
from modelrunner.wire import parse_count

_CONTINUE, _SWITCHING, _OK = 100, 101, 200
_EMPTY = (204, 304)
_STATUS = 3
_MOST_HEADERS = 200
_MOST_INTERIM = 20
_HEX = frozenset(b"0123456789abcdefABCDEF")
_LONGEST_SIZE = 16
"""Digits of a chunk's size: one of 64 bits has as many."""

_BLOCK = 64 * 1024
_DRAIN_S = 1.0
"""A new connection takes less."""

_INVALID = "the answer has an invalid length or chunk size"


class Headers(Mapping[str, str]):
    """Headers by name, in any case; what came several times is joined."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    # what the base has asks by an exception, a few times for each answer
    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as the base has it
        """Return a header's value; the default where it did not come."""
        return self._values.get(name.lower(), default)

    def add(self, name: str, value: str) -> None:
        """Add a line."""
        key = name.lower()
        before = self._values.get(key)
        self._values[key] = value if before is None else f"{before}, {value}"


class Answer:
    """The answer to one request, whose body is read from `link`.

    Attributes:
        status: The HTTP status.
        headers: By name, in any case.
        chunked: Whether the body comes in chunks.
        link: The connection; it serves the next request once the body was read to its end.

    Args:
        link: A connection over which a request was sent.
        method: That of the request.
        on_end: Called with the connection when it may serve the next request.
        whole: Whether all of the request was sent.

    Raises:
        BrokenAnswerError: The connection ends before the head does, or it is not that of HTTP.
        InvalidAnswerError: The head is too long, or has an invalid length.
        OSError: The connection is lost, or nothing came in time.
    """

    def __init__(
        self, link: Link, method: str, on_end: Callable[[Link], None], *, whole: bool = True
    ) -> None:
        status, version, headers = _head(link)
        self.status = status
        self.headers = headers
        self.link = link
        said = headers.get("connection", "").lower()
        self._keeps = whole and "close" not in said and (version > 0 or "keep-alive" in said)
        self._on_end = on_end
        self._ended = False
        self._chunk = 0
        self._left: int | None = None
        self.chunked = False
        if method == "HEAD" or status in _EMPTY:
            self._left = 0
        elif headers.get("transfer-encoding", "identity").lower() != "identity":
            self.chunked = (
                headers["transfer-encoding"].rpartition(",")[2].strip().lower() == "chunked"
            )
        else:
            self._left = _length(headers)
        if self._left is None and not self.chunked:
            # it ends with the connection
            self._keeps = False
        if self._left == 0:
            self._end()

    @property
    def length_remaining(self) -> int | None:
        """Bytes of the body that were not read; None where nobody has said."""
        return self._left

    def read_into(self, buffer: memoryview) -> int:
        """Fill a buffer with what is there of the body, waiting for some; 0 at the end.

        An answer that breaks off has ended too, where its length is known.

        Raises:
            BrokenAnswerError: It breaks off, and its length is not known.
            InvalidAnswerError: The size of a chunk is invalid.
            OSError: The connection is lost, or nothing came in time.
        """
        if self._ended or not len(buffer):
            return 0
        if self.chunked:
            return self._of_chunk(buffer)
        count = self.link.read_into(buffer if self._left is None else buffer[: self._left])
        if self._left is not None:
            self._left -= count
        if self._left == 0 or (self._left is None and not count):
            self._end()
        return count

    def read1(self, most: int, *, decode_content: bool = False) -> bytes:  # noqa: ARG002 - as urllib3 has it
        """Return what is there of the body, up to a number of bytes; nothing at the end.

        Raises:
            BrokenAnswerError: It breaks off.
            OSError: See `read_into`.
        """
        buffer = bytearray(most if self._left is None else min(most, self._left))
        count = self.read_into(memoryview(buffer))
        if not count and self._left:
            raise BrokenAnswerError("the answer ended early")
        del buffer[count:]
        return bytes(buffer)

    def read(self, most: int | None = None, *, decode_content: bool = False) -> bytes:  # noqa: ARG002 - see above
        """Return the next bytes of the body, or all; fewer at its end.

        Raises:
            OSError: See `read1`.
        """
        found = bytearray()
        while most is None or len(found) < most:
            block = self.read1(_BLOCK if most is None else min(_BLOCK, most - len(found)))
            if not block:
                break
            found += block
        return bytes(found)

    def stream(self, most: int, *, decode_content: bool = False) -> Iterator[bytes]:  # noqa: ARG002 - see above
        """Yield the body in pieces of up to a number of bytes.

        Raises:
            OSError: See `read1`.
        """
        while block := self.read1(most):
            yield block

    def drain_conn(self) -> None:
        """Read what is left, for nothing; a connection that breaks or takes long is let go of."""
        begun = monotonic()
        try:
            for _block in self.stream(_BLOCK):
                if monotonic() - begun > _DRAIN_S:
                    self.close()
                    return
        except OSError:
            self.close()

    def release_conn(self) -> None:
        """Nothing: who has read the body to its end has done so."""

    def close(self) -> None:
        """Let go of the connection, unless the body was read to its end."""
        if not self._ended:
            self._ended, self._keeps = True, False
            self.link.close()

    def _end(self) -> None:
        self._ended = True
        if self._keeps:
            self._on_end(self.link)
        else:
            self.link.close()

    def _of_chunk(self, buffer: memoryview) -> int:
        if not self._chunk:
            self._chunk = self._next_chunk()
            if not self._chunk:
                while self.link.read_line():
                    pass
                self._end()
                return 0
        count = self.link.read_into(buffer[: self._chunk])
        if not count:
            raise BrokenAnswerError("the answer ended early")
        self._chunk -= count
        if not self._chunk and self.link.read_line():
            raise InvalidAnswerError(_INVALID)
        return count

    def _next_chunk(self) -> int:
        digits = self.link.read_line().partition(b";")[0].strip()
        if not digits or len(digits) > _LONGEST_SIZE or not _HEX.issuperset(digits):
            raise InvalidAnswerError(_INVALID)
        # bounded: at most 16 digits
        return int(digits, 16)


def _head(link: Link) -> tuple[int, int, Headers]:
    """Status, minor version and headers of an answer, after those that only say it will come."""
    for _interim in range(_MOST_INTERIM):
        first, *lines = link.read_head().decode("latin-1").split("\n")
        version, _, rest = first.partition(" ")
        digits = rest.strip().partition(" ")[0]
        status = parse_count(digits) if len(digits) == _STATUS else None
        if version[:7] != "HTTP/1." or status is None or status < _CONTINUE:
            raise BrokenAnswerError("the server does not speak HTTP")
        if len(lines) > _MOST_HEADERS:
            raise InvalidAnswerError("the answer has too many headers")
        if status >= _OK or status == _SWITCHING:
            return status, int(version.strip() != "HTTP/1.0"), _headers(lines)
    raise InvalidAnswerError("the answer never begins")


def _headers(lines: list[str]) -> Headers:
    found = Headers()
    name = value = ""
    for line in lines:
        if line[:1] in (" ", "\t"):
            # a line that goes on, as servers of old have it
            value = f"{value} {line.strip()}"
            continue
        if name:
            found.add(name, value)
        name, _, value = line.partition(":")
        name, value = name.strip(), value.strip()
    if name:
        found.add(name, value)
    return found


def _length(headers: Headers) -> int | None:
    """The bytes that a body is to have; None where it does not say."""
    said = headers.get("content-length")
    if said is None:
        return None
    lengths = {parse_count(entry.strip()) for entry in said.split(",")}
    if len(lengths) > 1 or None in lengths:
        raise InvalidAnswerError(_INVALID)
    return lengths.pop()
