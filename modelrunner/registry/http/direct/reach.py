"""The connection to a host that is there first, of those to all of its addresses.

On many networks one of IPv6 and IPv4 leads nowhere, and says so after a minute or never: a host
with both is tried by the other one a quarter of a second later, and whichever answers is taken.

Source: RFC 8305, "Happy Eyeballs Version 2"; the order of the addresses is the system's, RFC 6724.
"""

import errno
import os
import selectors
import socket
import time
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

_STAGGER_S = 0.25
"""The wait for an answer before the next address is tried, too."""

_MOST_KNOWN = 64
_UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)


class ConnectError(OSError):
    """A connection that was not made in time."""


class Place(NamedTuple):
    """An address to connect to.

    Attributes:
        family: The kind of the address.
        address: As sockets take it, its text first.
    """

    family: int
    address: tuple[Any, ...]


_known: dict[str, Place] = {}
"""Which of a host's addresses has answered last: it is tried first."""


def reach(host: str, places: Sequence[Place], timeout_s: float) -> socket.socket:
    """A socket that is connected to one of a host's addresses.

    Args:
        host: The host.
        places: Its addresses, in the order in which the system would try them.
        timeout_s: Seconds that each of them may take.

    Raises:
        ConnectError: None has answered in time.
        OSError: None takes the connection; what the last of them has said.
    """
    if len(places) == 1:
        return _connected(places[0], timeout_s)
    last = _known.get(host)
    first = [last] if last is not None and last in places else []
    attempts = _Attempts(timeout_s)
    try:
        place, sock = attempts.run([*first, *(each for each in _mixed(places) if each != last)])
    finally:
        attempts.close()
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[host] = place
    sock.settimeout(timeout_s)
    return sock


def _mixed(places: Sequence[Place]) -> list[Place]:
    """The places, those of the two families in turn."""
    own = [each for each in places if each.family == places[0].family]
    others = [each for each in places if each.family != places[0].family]
    return [each for each in chain.from_iterable(zip_longest(own, others)) if each is not None]


class _Attempts:
    """Connections that are being made side by side."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._selector = selectors.DefaultSelector()
        self._ends: dict[socket.socket, float] = {}
        self._error: OSError = ConnectError("timed out")

    def run(self, places: Sequence[Place]) -> tuple[Place, socket.socket]:
        """The first connection that is there, and the place that it leads to."""
        waiting = list(places)
        next_at = 0.0
        while waiting or self._ends:
            now = time.monotonic()
            if waiting and (not self._ends or now >= next_at):
                if self._begin(waiting.pop(0), now + self._timeout_s):
                    next_at = now + _STAGGER_S
                continue
            until = min([*self._ends.values(), *([next_at] if waiting else [])])
            for key, _events in self._selector.select(max(0.0, until - now)):
                sock: Any = key.fileobj
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                self._forget(sock)
                if not code:
                    return key.data, sock
                self._fail(sock, OSError(code, os.strerror(code)))
                # nobody else is waited for
                next_at = 0.0
            for sock in [each for each, end in self._ends.items() if end <= time.monotonic()]:
                self._forget(sock)
                self._fail(sock, ConnectError("timed out"))
        raise self._error

    def close(self) -> None:
        """Gives up those that are not there yet."""
        for sock in self._ends:
            sock.close()
        self._ends.clear()
        self._selector.close()

    def _begin(self, place: Place, end: float) -> bool:
        """Begins one more; False where that fails at once."""
        try:
            sock = socket.socket(place.family, socket.SOCK_STREAM)
        except OSError as exc:
            # a system without this family
            self._error = exc
            return False
        sock.settimeout(0)
        try:
            code = sock.connect_ex(place.address)
        except OSError as exc:
            self._fail(sock, exc)
            return False
        if code not in _UNDER_WAY:
            self._fail(sock, OSError(code, os.strerror(code)))
            return False
        self._selector.register(sock, selectors.EVENT_WRITE, place)
        self._ends[sock] = end
        return True

    def _forget(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        del self._ends[sock]

    def _fail(self, sock: socket.socket, error: OSError) -> None:
        sock.close()
        self._error = error


def _connected(place: Place, timeout_s: float) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(place.address)
    except TimeoutError as exc:
        sock.close()
        raise ConnectError("timed out") from exc
    except BaseException:
        sock.close()
        raise
    return sock
