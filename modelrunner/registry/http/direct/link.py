"""One connection: what is read from it, with what has come before it was asked for.

Bytes that came with a line stay in a buffer of the connection; what is read in large pieces goes
from the socket into the caller's own.
"""

import select
import socket
from time import monotonic
from weakref import ref

_HELD = 64 * 1024
"""Bytes that are read at once for a head or a line: the longest of them."""

_ENDS = (b"\n\r\n", b"\n\n")
_LINE = 4 * 1024


class BrokenAnswerError(ConnectionError):
    """The other end has closed the connection, or does not speak HTTP."""


class InvalidAnswerError(OSError):
    """An answer with an invalid length or head."""


class Link:
    """A connection to one server. Not to be shared between threads.

    Attributes:
        sock: The socket; any thread may shut it down.
        fresh: Whether no request was sent yet.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fresh = True
        self._held = bytearray(_HELD)
        self._buffer = memoryview(self._held)
        self._begin = self._end = 0
        _close_with(self, sock)

    @property
    def is_idle(self) -> bool:
        """Whether a request may be sent: nothing came unasked, and the other end has not gone."""
        if self._begin < self._end or getattr(self.sock, "is_spent", False):
            return False
        try:
            poll = select.poll()
            poll.register(self.sock, select.POLLIN)
            return not poll.poll(0)
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """Close it."""
        self.sock.close()

    def read_head(self) -> bytes:
        """Return the lines up to an empty one, without their last end.

        A server may take its time until it begins; from then on all of them come in the time that
        the socket has for one byte, or a server that sends them one by one would hold us for days.

        Raises:
            BrokenAnswerError: The connection ends before that.
            InvalidAnswerError: They are too long.
            TimeoutError: They take too long.
        """
        longest_s = self.sock.gettimeout()
        begun: float | None = None
        while True:
            begin = self._begin
            found = [at for end in _ENDS if (at := self._held.find(end, begin, self._end)) >= 0]
            if found:
                at = min(found)
                self._begin = at + (3 if self._held.startswith(_ENDS[0], at) else 2)
                return bytes(self._held[begin:at])
            if longest_s is not None and self._begin < self._end:
                begun = monotonic() if begun is None else begun
                if monotonic() - begun > longest_s:
                    raise TimeoutError("timed out")
            self._more()

    def read_line(self) -> bytes:
        """Return a line without its end.

        Raises:
            BrokenAnswerError: The connection ends before that.
            InvalidAnswerError: It is too long.
        """
        while True:
            begin = self._begin
            at = self._held.find(b"\n", begin, self._end)
            if at >= 0:
                self._begin = at + 1
                return bytes(self._held[begin:at]).rstrip(b"\r")
            if self._end - begin > _LINE:
                raise InvalidAnswerError("the answer has an invalid length or chunk size")
            self._more()

    def read_into(self, view: memoryview) -> int:
        """Fill a buffer with what is there, waiting for some; 0 where the connection ends."""
        if self._begin < self._end:
            count = min(len(view), self._end - self._begin)
            view[:count] = self._buffer[self._begin : self._begin + count]
            self._begin += count
            return count
        return self.sock.recv_into(view)

    def _more(self) -> None:
        """Wait for more of what cannot be understood yet."""
        if self._begin:
            left = self._buffer[self._begin : self._end].tobytes()
            self._begin, self._end = 0, len(left)
            self._buffer[: self._end] = left
        if self._end == _HELD:
            raise InvalidAnswerError("the answer's headers are too long")
        count = self.sock.recv_into(self._buffer[self._end :])
        if not count:
            raise BrokenAnswerError("the server closed the connection")
        self._end += count


_open: set["ref[Link]"] = set()


def _close_with(link: Link, sock: socket.socket) -> None:
    """Close a socket when nobody has its connection any more, be it in a circle of references."""

    def close(gone: "ref[Link]") -> None:
        _open.discard(gone)
        sock.close()

    _open.add(ref(link, close))
