"""How much a transfer may take: connections, and bytes a second."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

MOST_CONNECTIONS = 16
_NEXT_CONNECTIONS = 4
_FASTER = 1.15
_UNHINDERED = 0.75
_PLENTY = 300e6
"""Bytes a second at which hashing and writing are the limit, and no longer the connections."""
_PROBE_S = 0.03
_CATCH_UP_S = 0.25
_BLOCK_S = 0.025


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user allows; None leaves it to the engine.

    Attributes:
        connections: The number of connections.
        rate: At most this many bytes a second.
    """

    connections: int | None = None
    rate: int | None = None


class Throttle:
    """Lets `rate` bytes a second through, over all threads; a rate of None lets everything."""

    def __init__(
        self,
        rate: int | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = Lock()
        self._due = clock()

    @property
    def block(self) -> int | None:
        """How many bytes to ask for at once so that the flow is even; None for any."""
        return None if self._rate is None else max(4096, int(self._rate * _BLOCK_S))

    def take(self, count: int) -> None:
        """Accounts for bytes that came, and waits until they were allowed to."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            # a late wake-up may be caught up with; more time that was not used is not saved up
            self._due = max(self._due, now - _CATCH_UP_S) + count / self._rate
            wait = self._due - now
        if wait > 0:
            self._sleep(wait)


class Growth:
    """How many connections to use: one at first, more as long as that makes it faster.

    The first is looked at for a moment only: where it alone keeps this machine busy, more of them
    would cost and bring nothing.
    """

    def __init__(self, fixed: int | None, window_s: float = 0.1) -> None:
        self.wanted = min(fixed, MOST_CONNECTIONS) if fixed else 1
        self._window_s = window_s
        self.settled = fixed is not None
        self._since: tuple[float, int] | None = None
        self._before = 0.0
        self._alone = 0.0

    @property
    def expected(self) -> int:
        """How many connections there may come to be: what each of them takes on leaves room."""
        return self.wanted if self.settled else MOST_CONNECTIONS

    def observe(self, now: float, done: int, flowing: int | None = None) -> None:
        """Hears how many bytes there are; may raise `wanted`.

        Args:
            now: The time.
            done: Bytes that came.
            flowing: How many connections deliver; None for all that are wanted.
        """
        if self.settled:
            return
        # the first byte starts the clock, of the latest connections too: connecting is not speed
        if self._since is None or (flowing is not None and flowing < self.wanted):
            self._since = (now, done) if done else None
            return
        begun, bytes_then = self._since
        if now - begun < (_PROBE_S if self.wanted == 1 else self._window_s):
            return
        speed = (done - bytes_then) / (now - begun)
        self._since = (now, done)
        faster = speed > _FASTER * self._before
        if faster and speed < _PLENTY and self.wanted < MOST_CONNECTIONS:
            self._grow(speed)
        else:
            self.settled = True

    def _grow(self, speed: float) -> None:
        alone, self._alone = self._alone, speed / self.wanted
        if self.wanted == 1:
            self.wanted = _NEXT_CONNECTIONS
        elif self._alone > _UNHINDERED * alone:
            # each is as fast as it was among fewer: it is the connection that is limited
            self.wanted = MOST_CONNECTIONS
        else:
            self.wanted = min(MOST_CONNECTIONS, 2 * self.wanted)
        self._before = speed
