"""Which parts of a blob are here, on their way, or still to come; shared by all connections.

A blob is cut into pieces of one size. A connection claims a run of neighbouring pieces and works
through it from front to back, one request for the whole run. An idle connection takes the far half
of the run that would end last; the other one sees that its run has become shorter. So all
connections finish together, however fast each of them is, and few requests are made.
"""

from collections.abc import Iterable
from threading import Condition, Lock, RLock

from modelrunner.frozen import field, record

PIECE = 512 * 1024
"""Bytes of a piece: what the journal notes."""

_PATIENCE_S = 1.0
_SHARE, _FIRST = 0.75, 0.4
_LEAST = 8 * 1024 * 1024
"""So many bytes are worth a request of their own, where there is more to do."""
_WORTH, _ENOUGH = 4, 100
"""Multiples of what comes while an answer is waited for: with less the waiting takes much of the
time, and more would save nothing."""
_FRONT = 1024 * 1024
_FRONTS = 128
_HOPELESS = 20.0
"""So many times slower than the others, and a connection is made again."""
_LAGS = 4.0
"""So many times slower than the others, and what is left of a short run is taken."""
_CRAWL = 4.0
"""So many times longer than usual for its last piece, and a connection is given up."""


@record
class Run:
    """Pieces `first` to `end` (exclusive) on one connection.

    `reached` is the next byte to come, `reading` the end of the block that is being read. `first`
    and `reached` are moved by the connection, `end` by the one that takes a part away. A connection
    writes while it holds `writing`, and only if the run is not `lost`: what another one brings is
    not written over by a late one.
    """

    first: int
    end: int
    reached: int
    reading: int
    began: float
    began_at: int
    lost: bool = field(default=False)
    writing: Lock = field(default_factory=Lock, repr=False)

    def speed(self, now: float) -> float:
        """Bytes a second since the run began."""
        return (self.reached - self.began_at) / max(now - self.began, 1e-3)


class Pieces:
    """The state of one blob. All methods may be called from any thread.

    `changed` is notified when there is work for an idle connection, or none is left. `hashed` is
    how far the hash of the front has taken bytes; `history` changes when some of those are
    downloaded again, so that what is hashed is what is on disk.
    """

    def __init__(
        self, size: int, done: Iterable[int] = (), piece: int = PIECE, *, in_order: bool = False
    ) -> None:
        self.size = size
        self.piece = piece
        self.count = -(-size // self.piece)
        # the most pieces of a run: where the front is read meanwhile, a small part of the blob
        self._longest = max(1, _FRONT // piece, self.count // _FRONTS) if in_order else self.count
        self._lock = RLock()
        self.changed = Condition(self._lock)
        self.hashed = 0
        self.history = 0
        self._done = bytearray(self.count)
        self._done_bytes = 0
        self._left = self.count
        for index in done:
            if 0 <= index < self.count and not self._done[index]:
                self._set_done(index)
        # first and end of each stretch, the last of the blob first
        self._waiting = _stretches(self._done)
        self._runs: list[Run] = []
        # how far the begun pieces are that connections have given back
        self._begun: dict[int, int] = {}
        self._front = 0
        self._usual = 0.0
        # pieces that somebody waits for; who came first is served first
        self._wanted: dict[int, Condition] = {}

    @property
    def complete(self) -> bool:
        """Whether every piece is here."""
        return self._left == 0

    def span(self, index: int) -> tuple[int, int]:
        """The first byte of a piece, and the one after its last."""
        start = index * self.piece
        return start, min(start + self.piece, self.size)

    def done_bytes(self) -> int:
        """Bytes in finished pieces, and in the begun ones."""
        with self.changed:
            begun = sum(
                max(0, run.reached - run.first * self.piece) for run in self._runs if not run.lost
            )
            left = sum(reached - index * self.piece for index, reached in self._begun.items())
            return min(self.size, self._done_bytes + begun + left)

    def front_bytes(self) -> int:
        """How many bytes from the start on are here without a gap."""
        with self.changed:
            while self._front < self.count and self._done[self._front]:
                self._front += 1
            start = min(self._front * self.piece, self.size)
            here = (run.reached for run in self._runs if run.first == self._front and not run.lost)
            return max((start, self._begun.get(self._front, 0), *here))

    def here_from(self, at: int) -> int:
        """Where the bytes end that are here without a gap from a place on."""
        with self.changed:
            index = at // self.piece
            gap = self._done.find(0, index)
            if gap < 0:
                return self.size
            start = gap * self.piece
            here = (run.reached for run in self._runs if run.first == gap and not run.lost)
            return max(at, start, self._begun.get(gap, 0), *here)

    def wait_for(self, at: int, seconds: float) -> None:
        """Wait until the piece with this byte is here; it is brought before others.

        The caller holds `changed`. Each piece has a condition of its own: of hundreds of readers
        only those wake up that can go on.
        """
        self._wanted.setdefault(at // self.piece, Condition(self._lock)).wait(seconds)

    def wake_all(self) -> None:
        """Ends every wait for a piece: there is something else to be seen."""
        with self.changed:
            for waiting in self._wanted.values():
                waiting.notify_all()
            self._wanted.clear()

    def claim(self, connections: int, now: float, meanwhile: int | None = None) -> Run | None:
        """A run of pieces that nobody works on; None where there are none.

        Args:
            connections: How many connections share the work.
            now: The time, for speeds.
            meanwhile: The bytes that come while an answer is waited for: where others want work
                too, a run is 4 to 100 times as long. None where it is not known.
        """
        with self.changed:
            if not self._waiting:
                return None
            waiting = sum(end - first for first, end in self._waiting)
            # less than a fair share, and less each time: the front, which is hashed, must be done
            # well before the end
            share = waiting / max(1, connections)
            # bounded: a number already
            least = min(int(share), _LEAST // self.piece)
            # bounded: a number already
            part = 1.0 if connections == 1 else _SHARE * self._early(connections)
            # bounded: a number already
            most = max(1, least, int(part * share))
            if meanwhile is not None and connections > 1:
                largest = _LEAST // self.piece
                most = max(most, min(largest, _WORTH * meanwhile // self.piece))
                most = min(most, max(1, largest, _ENOUGH * meanwhile // self.piece))
            most = min(most, self._longest)
            if self._is_far_ahead(connections):
                return None
            first, end = self._next_waiting()
            if end - first > most:
                self._put_back((first + most, end))
                end = first + most
            return self._begin(first, end, now, self._begun.pop(first, 0))

    def steal(self, now: float, latency_s: float = 0.0) -> Run | None:
        """Work taken from the run that would end last; None where nothing is worth taking.

        What crawls, compared with what connections did so far, is taken away whole, the piece in
        hand included.

        Args:
            now: The time.
            latency_s: Seconds until an answer comes: what comes sooner is left where it is.
        """
        with self.changed:
            running = [run for run in self._runs if not run.lost]
            wanted = self._wanted_of(running, now)
            if wanted is not None or not running:
                return None if wanted is None else self._take_rest(*wanted, now)
            slowest = max(running, key=lambda run: self._remaining_s(run, now))
            at = max(slowest.reached, slowest.reading - 1) // self.piece
            ahead = slowest.end - at - 1
            soon = ahead * self.piece < 2 * latency_s * self._speed(slowest, now)
            if ahead < 0 or (ahead >= 1 and (soon or self._is_short(slowest, running, now))):
                return None
            if ahead >= 1:
                taken = (ahead + 1) // 2
                slowest.end -= taken
                return self._begin(slowest.end, slowest.end + taken, now)
            alone = self.span(at)[1] - slowest.reached
            others = (run.speed(now) for run in running if run is not slowest)
            usual = max(self._usual, *others, 1.0)
            young = now - slowest.began < _PATIENCE_S
            if young or self._remaining_s(slowest, now) < _PATIENCE_S + _CRAWL * alone / usual:
                return None
            if not slowest.writing.acquire(blocking=False):
                # it has just read something
                return None
            slowest.lost = True
            slowest.writing.release()
            # nothing is written twice: what may be hashed already stays as it is
            at, end = slowest.reached // self.piece, slowest.end
            slowest.end = at
            return self._begin(at, end, now, slowest.reached)

    def crawls(self, run: Run, now: float) -> bool:
        """Whether a run is that much slower than the others that a fresh connection is worth it."""
        with self.changed:
            speeds = sorted(other.speed(now) for other in self._runs if other is not run)
            grown = now - run.began > _PATIENCE_S and bool(speeds)
            return grown and run.speed(now) * _HOPELESS < speeds[len(speeds) // 2]

    def next_block(self, run: Run, largest: int) -> int:
        """How many bytes a connection should read next; 0 where its run ends."""
        with self.changed:
            end = min(run.end * self.piece, self.size)
            count = 0 if run.lost else max(0, min(largest, end - run.reached))
            run.reading = run.reached + count
            return count

    def finish(self, run: Run, index: int) -> bool:
        """A piece has been written; whether it was the first to bring it."""
        with self.changed:
            run.first = index + 1
            if self._done[index]:
                return False
            self._set_done(index)
            waiting = self._wanted.pop(index, None)
            if waiting is not None:
                waiting.notify_all()
            if self._left == 0:
                self.changed.notify_all()
            return True

    def give_back(self, run: Run, now: float) -> None:
        """A run ends, however; what is not done of it waits for somebody else."""
        with self.changed:
            self._runs.remove(run)
            self._usual = max(run.speed(now), self._usual / 2)
            if run.first >= run.end:
                return
            if run.reached > run.first * self.piece and not run.lost:
                # the next one goes on in the middle of the piece
                self._begun[run.first] = run.reached
            self._put_back((run.first, run.end))
            self.changed.notify_all()

    def finished(self) -> list[int]:
        """The pieces that are here."""
        with self.changed:
            return [index for index in range(self.count) if self._done[index]]

    def restart(self, run: Run) -> None:
        """Nothing is believed any more: this run brings everything, from the start."""
        with self.changed:
            self._done = bytearray(self.count)
            self._waiting.clear()
            self._begun.clear()
            self._front, self._left, self._done_bytes = 0, self.count, 0
            self.history += 1
            for other in self._runs:
                if other is not run:
                    with other.writing:
                        other.lost, other.end = True, other.first
            run.first, run.end, run.reached, run.reading = 0, self.count, 0, 0

    def _early(self, connections: int) -> float:
        """How much of its share a run gets while others are not there yet.

        The first runs end one after the other from the front on, so that it is hashed meanwhile.
        """
        return min(1.0, _FIRST + (1 - _FIRST) * len(self._runs) / connections)

    def _is_far_ahead(self, connections: int) -> bool:
        """Whether what is waiting lies so far behind the front that the front is to get on first.

        Where one connection is slow, the others would take the line for what nobody reads yet.
        """
        if self._longest >= self.count or self._wanted_is_waiting():
            return False
        front = self.front_bytes() // self.piece
        return self._waiting[-1][0] >= front + self._longest * max(2, connections)

    def _is_short(self, slowest: Run, running: list[Run], now: float) -> bool:
        """Whether a run is one of the short ones that keep to the front, and comes as others do.

        What is taken from it is on its way already, and would come twice.
        """
        if self._longest >= self.count:
            return False
        speed = self._speed(slowest, now)
        others = (run.speed(now) for run in running if run is not slowest)
        return speed * _LAGS >= max(self._usual, *others, 1.0)

    def _wanted_is_waiting(self) -> bool:
        return any(first <= index < end for index in self._wanted for first, end in self._waiting)

    def _next_waiting(self) -> tuple[int, int]:
        """Takes the first waiting stretch, or what follows a piece that somebody waits for."""
        for index in self._wanted:
            for stretch in self._waiting:
                first, end = stretch
                if first <= index < end:
                    self._waiting.remove(stretch)
                    if first < index:
                        self._put_back((first, index))
                    return index, end
        return self._waiting.pop()

    def _put_back(self, stretch: tuple[int, int]) -> None:
        self._waiting.append(stretch)
        self._waiting.sort(reverse=True)

    def _wanted_of(self, running: list[Run], now: float) -> tuple[Run, int] | None:
        """A piece that somebody waits for, and the run that would come to it much later."""
        for index in self._wanted:
            for run in running:
                at = max(run.reached, run.reading - 1) // self.piece
                left = index * self.piece - run.reached
                soon = left < _PATIENCE_S * self._speed(run, now)
                if at + 1 < index < run.end and not soon:
                    return run, index
        return None

    def _take_rest(self, run: Run, index: int, now: float) -> Run:
        end, run.end = run.end, index
        return self._begin(index, end, now)

    def _set_done(self, index: int) -> None:
        start, end = self.span(index)
        self._done[index] = 1
        self._done_bytes += end - start
        self._left -= 1

    def _begin(self, first: int, end: int, now: float, reached: int = 0) -> Run:
        start = max(first * self.piece, reached)
        if start < self.hashed:
            self.history += 1
        run = Run(first, end, start, start, now, start)
        self._runs.append(run)
        return run

    def _remaining_s(self, run: Run, now: float) -> float:
        left = min(run.end * self.piece, self.size) - run.reached
        return left / self._speed(run, now)

    def _speed(self, run: Run, now: float) -> float:
        """Bytes a second of a run; one that has just begun has shown none yet."""
        young = now - run.began < _PATIENCE_S
        return max(run.speed(now), self._usual if young else 0.0, 1.0)


def _stretches(done: bytearray) -> list[tuple[int, int]]:
    """The stretches of what is not done, the last first."""
    found: list[tuple[int, int]] = []
    end = len(done)
    while (last := done.rfind(0, 0, end)) >= 0:
        first = done.rfind(1, 0, last) + 1
        found.append((first, last + 1))
        end = first
    return found
