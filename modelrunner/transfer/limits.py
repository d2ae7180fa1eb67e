"""How much a transfer may take: connections, bytes a second, and bytes of one answer."""

import time
from _thread import allocate_lock
from collections.abc import Callable

from modelrunner.frozen import frozen

MOST_CONNECTIONS = 16
_FEW_CONNECTIONS = 4
_FASTER = 1.15
_FAST = 150e6
"""Bytes a second of one connection that so many of would be more than a machine can take."""
_PROBE_S, _LONG_PROBE_S = 0.01, 0.05
_PROBE_BLOCKS, _DISTANT_BLOCKS = 5, 2
"""Reads after which it shows whether more comes than is read."""
_AMPLE_S = 0.25
_SILENCE_S = 0.25
_CATCH_UP_S = 0.25
_BLOCK_S = 0.025
DISTANT_S = 0.02
"""Seconds that an answer takes from a server that is far away, or from one behind it."""

_LEAST_CUT = 256 * 1024
"""Bytes of answers that are always cut there which are worth a request of their own."""

_ALIKE = 1 / 16
_WHOLE = 16
"""Whole answers in a row after which twice as much is requested."""


@frozen
class Limits:
    """What the user allows; None leaves it to the engine.

    Attributes:
        connections: The most connections.
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
        self._lock = allocate_lock()
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
    """How many connections to use: one at first, more where that makes it faster.

    The first is looked at for a moment. Where more comes than this machine takes, further ones
    would cost and bring nothing. Where little comes, it is the connection or the distance that
    limits it, and as many as may be are made at once. In between a few are tried, and given up
    where they bring nothing. So are all but one, once, where more comes than this machine takes:
    one alone needs less of it, and what comes in order is hashed as it comes.

    Attributes:
        wanted: How many there are to be.
        ample: Whether more comes than this machine takes.
        settled: Whether `wanted` stays as it is.
    """

    def __init__(self, most: int | None, window_s: float = 0.1) -> None:
        self._most = min(most or MOST_CONNECTIONS, MOST_CONNECTIONS)
        self._few = min(self._most, _FEW_CONNECTIONS)
        self.wanted = 1
        self.ample = False
        self.settled = self._most == 1
        self._window_s = window_s
        self._since: tuple[float, int] | None = None
        self._begun: float | None = None
        self._alone = 0.0
        self._ample_since: float | None = None
        self._reduced = False

    @property
    def expected(self) -> int:
        """How many connections there may come to be: what each of them takes on leaves room."""
        return self.wanted if self.settled or self.ample else self._most

    def stay_with_one(self) -> None:
        """One connection is enough, whatever comes."""
        self.wanted, self.settled = 1, True

    def observe(
        self,
        now: float,
        done: int,
        flowing: int | None = None,
        *,
        ample: bool = False,
        blocks: int | None = None,
        distant: bool = False,
    ) -> None:
        """Account for the bytes that came; may change `wanted`.

        Args:
            now: The time.
            done: Bytes that came.
            flowing: How many connections deliver; None for all that are wanted.
            ample: Whether more comes than this machine takes.
            blocks: In how many reads they came; None for enough of them.
            distant: Whether the server is so far away that few reads are enough to see: one
                connection comes up to speed in several times the latency.
        """
        self.ample = ample
        if self._reduce(now) or self.settled:
            return
        if not done:
            self._await_first(now)
            return
        # the first byte starts the clock, of the latest connections too: connecting is not speed
        if self._since is None or (flowing is not None and flowing < self.wanted):
            self._since = (now, done)
            return
        begun, bytes_then = self._since
        window = _PROBE_S if self.wanted == 1 else self._window_s
        if blocks is not None and blocks < (_DISTANT_BLOCKS if distant else _PROBE_BLOCKS):
            window = _LONG_PROBE_S
        if now - begun < window:
            return
        self._since = (now, done)
        if not ample:
            self._judge((done - bytes_then) / (now - begun))

    def _reduce(self, now: float) -> bool:
        """Whether there are to be fewer from now on."""
        if not self.ample or self.wanted == 1 or self._reduced:
            self._ample_since = None
        elif self._ample_since is None:
            self._ample_since = now
        elif now - self._ample_since >= _AMPLE_S:
            self.wanted, self.settled, self._reduced = 1, False, True
            self._since = None
            return True
        return False

    def _await_first(self, now: float) -> None:
        """Does not leave everything to a connection that delivers nothing."""
        if self._begun is None:
            self._begun = now
        elif now - self._begun > _SILENCE_S:
            self.wanted = self._few

    def _judge(self, speed: float) -> None:
        if speed < _FAST or (self.wanted > 1 and speed > _FASTER * self._alone):
            self.wanted, self.settled = self._most, True
        elif self.wanted > 1:
            self.wanted = 1
        elif not self._alone:
            self._alone, self.wanted = speed, self._few


class CutLength:
    """After how many bytes something on the way breaks answers off, where it always does so.

    What is no longer comes whole: nothing is sent in vain, and the connection can be used again.

    Attributes:
        bytes: The most to request at once; None for any number.
    """

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._last = 0
        self._whole, self._patience = 0, _WHOLE

    def ask(self, wanted: int) -> int:
        """How many of the wanted bytes to request at once.

        After enough whole answers one request asks for twice as much, which may come by now: the
        others wait for how it ends.
        """
        if self.bytes is None or wanted <= self.bytes:
            return wanted
        if self._whole < self._patience:
            return self.bytes
        self._whole = 0
        return min(wanted, 2 * self.bytes)

    def note(self, came: int, asked: int) -> None:
        """Account for an answer."""
        if came >= asked:
            self._whole += 1
            if self.bytes is not None and asked > self.bytes:
                self.bytes, self._whole = asked, 0
            return
        alike = abs(came - self._last) <= _ALIKE * came
        if came >= _LEAST_CUT and alike:
            if self.bytes is not None:
                # it still does
                self._patience *= 2
            self.bytes = came
        elif self.bytes is not None and came < self.bytes // 2:
            # less of less: it is no length that it goes by
            self.bytes = None
        self._last, self._whole = came, 0
