"""How much a transfer may take: connections, and bytes a second."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from modelrunner.errors import DeadlineError

MOST_CONNECTIONS = 16
_FIRST_CONNECTIONS = 4
_CATCH_UP_S = 0.25
_BLOCK_S = 0.025


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user allows; None leaves it to the engine.

    Attributes:
        connections: Exactly so many connections.
        rate: At most so many bytes a second.
        deadline: When to give up, on the monotonic clock.
    """

    connections: int | None = None
    rate: int | None = None
    deadline: float | None = None

    def check(self, now: float) -> None:
        """Gives up where the time is over.

        Raises:
            DeadlineError: It is; what arrived is kept.
        """
        if self.deadline is not None and now > self.deadline:
            raise DeadlineError(
                "the time that --timeout allows is over",
                hint="what arrived is kept: run the same command to go on",
            )


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
    """How many connections to use: few at first, more as long as that makes it faster."""

    def __init__(self, fixed: int | None, window_s: float = 0.2) -> None:
        self.wanted = min(fixed, MOST_CONNECTIONS) if fixed else _FIRST_CONNECTIONS
        self._window_s = window_s
        self._settled = fixed is not None
        self._since: tuple[float, int] | None = None
        self._before = 0.0

    def observe(self, now: float, done: int) -> None:
        """Hears how many bytes there are; may raise `wanted`."""
        if self._settled:
            return
        if self._since is None:
            # the first byte starts the clock: connecting is not speed
            self._since = (now, done) if done else None
            return
        begun, bytes_then = self._since
        if now - begun < self._window_s:
            return
        speed = (done - bytes_then) / (now - begun)
        self._since = (now, done)
        if speed > 1.15 * self._before and self.wanted < MOST_CONNECTIONS:
            self.wanted = min(MOST_CONNECTIONS, 2 * self.wanted)
            self._before = speed
        else:
            self._settled = True
