"""One connection of a transfer: a thread that claims runs of pieces and brings them to disk.

It ends when there is nothing left to do, or when it has failed too often without a byte; then
the others go on without it. What it could not finish it gives back.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from threading import Event, Lock, Thread

from modelrunner.disk.files import disk_errors, write_at
from modelrunner.errors import (
    InterruptedTransferError,
    PartRefusedError,
    RangesUnsupportedError,
    TransferError,
)
from modelrunner.frozen import field, record
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import BlobStream, Source
from modelrunner.store.journal import Journal
from modelrunner.transfer.hasher import BLOCK, FrontHasher
from modelrunner.transfer.limits import DISTANT_S, CutLength, Throttle
from modelrunner.transfer.pieces import Pieces, Run

_SMALLEST = 64 * 1024
_SHARED_BLOCK = BLOCK // 4
"""The largest block of one of several connections: a process that is killed loses all of theirs."""

_QUICK_S, _LONG_S = 0.01, 0.1
_AMPLE = 256 * 1024
"""Bytes that wait to be read where this machine is slower than the line."""

_AMPLE_SHARE = 0.5
"""The share of reads that find more than they take where this machine is what limits."""

_MEMORY = 0.4
_IDLE_S = 0.05
_RENEWALS = 2
AT_ONCE_S = 0.001
"""The wait after an answer that broke off and has delivered."""

WORTH = 64 * 1024
"""Bytes of one answer that are worth asking for the next one at once."""

BREAKS = 24
"""Answers in a row that may break off below that, until a wait comes between them: where each is
cut at its half, the end of a blob takes 16 of them."""

_CUTS, _LEAST_SHARE = 2, 0.02
"""Answers in a row after whose breaking off more is requested than is needed."""

_REFUSALS = 3
"""Refusals of a part in a row: no address has expired that often."""


_LEAD = 1.25
"""Times as early as its answer takes, the next run is requested."""

RequestNext = Callable[[tuple[int, int]], None]
"""Requests a part of the blob, and does not wait for the answer."""


@record
class Shared:
    """What all connections of one blob share."""

    reference: Reference
    descriptor: Descriptor
    pieces: Pieces
    hasher: FrontHasher
    journal: Journal
    handle: int
    place: Path
    throttle: Throttle
    backoff: Backoff
    open_source: Callable[[], Source]
    request_next: RequestNext | None = None
    stop: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)
    received: int = 0
    latency_s: float = 0.0
    origins: dict[str, int] = field(default_factory=dict)
    notices: list[tuple[str, int, float]] = field(default_factory=list)
    reason: str | None = None
    connections: int = 0
    whole: bool = False
    arriving: bool = False
    cut: CutLength = field(default_factory=CutLength)


class Worker(Thread):
    """One connection.

    Attributes:
        flowing: Whether it has delivered a byte.
        blocks: How many reads it has made.
        ample: How often, of late, more was there to be read than it could take: from 0 to 1.
        surplus: Whether it is to end: fewer are enough.
        error: Why it gave up; None if it did not.
    """

    def __init__(self, shared: Shared, number: int) -> None:
        super().__init__(name=f"connection-{number}", daemon=True)
        self._shared = shared
        self._stream: BlobStream | None = None
        self._buffer: bytearray | None = bytearray(_SHARED_BLOCK)
        self._block = min(_SHARED_BLOCK, shared.throttle.block or _SMALLEST)
        self._run: Run | None = None
        self._next: tuple[Run, int] | None = None
        self._renewals = 0
        self._speed = 0.0
        self._cuts, self._share = 0, 1.0
        self.flowing = False
        self.blocks = 0
        self.ample = 0.0
        self.surplus = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """Works until nothing is left, or nothing works."""
        try:
            with closing(self._shared.open_source()) as source:
                self._work(source)
        except BaseException as exc:  # noqa: BLE001 - raised where the transfer is watched
            self.error = exc
        finally:
            if self._next is not None:
                self._shared.pieces.give_back(self._next[0], time.monotonic())
            with self._shared.pieces.changed:
                self._shared.pieces.changed.notify_all()

    def abort(self) -> None:
        """Breaks the connection off, from another thread."""
        stream = self._stream
        if stream is not None:
            stream.abort()

    def renew(self, now: float) -> None:
        """Breaks a crawling connection off, from another thread; what it was at goes on again.

        Only a few times: where even new connections crawl, that is how it is.
        """
        run = self._run
        if run is None or self._renewals >= _RENEWALS or not self._shared.pieces.crawls(run, now):
            return
        self._renewals += 1
        # its speed is judged from here on
        run.began, run.began_at = now, run.reached
        self.abort()

    def _work(self, source: Source) -> None:
        shared, pieces = self._shared, self._shared.pieces
        while not (self._is_over() or pieces.complete):
            now = time.monotonic()
            run, requested = self._requested(now)
            run = run or pieces.claim(shared.connections, now, self._meanwhile(self._speed))
            run = run or pieces.steal(now, shared.latency_s)
            if run is None:
                with pieces.changed:
                    pieces.changed.wait(_IDLE_S)
                continue
            self._run = run
            try:
                self._finish(source, run, requested)
            finally:
                now = time.monotonic()
                self._run, self._speed = None, run.speed(now)
                pieces.give_back(run, now)

    def _is_over(self) -> bool:
        return self.surplus or self._shared.stop.is_set()

    def _meanwhile(self, speed: float) -> int | None:
        """The bytes that could come while an answer is waited for, as far as that is known."""
        # bounded: a product of two measured numbers
        return int(self._shared.latency_s * speed) or None

    def _requested(self, now: float) -> tuple[Run | None, int | None]:
        """The run that was requested ahead, and the end of the request; None where none was."""
        if self._next is None:
            return None, None
        (run, stop), self._next = self._next, None
        # its speed is judged from here on
        run.began = now
        return run, stop

    def _request_next(self, run: Run) -> None:
        """Requests the next run while the last of this one comes: nobody waits for its answer."""
        shared, pieces = self._shared, self._shared.pieces
        if shared.request_next is None or not self._is_to_request() or self._before_next(run) > 0:
            return
        now = time.monotonic()
        following = pieces.claim(shared.connections, now, self._meanwhile(run.speed(now)))
        if following is not None:
            stop = self._end_of_request(following)
            self._next = following, stop
            shared.request_next((following.reached, stop))

    def _is_to_request(self) -> bool:
        shared = self._shared
        if shared.request_next is None or self._next is not None:
            return False
        return shared.latency_s >= DISTANT_S

    def _before_next(self, run: Run) -> int:
        """The bytes of a run that come before the next one is requested; negative after that."""
        pieces = self._shared.pieces
        lead = _LEAD * self._shared.latency_s * run.speed(time.monotonic())
        # bounded: a product of measured numbers
        return min(run.end * pieces.piece, pieces.size) - run.reached - int(lead)

    def _next_read(self, run: Run, end: int) -> int:
        """The bytes to read at once."""
        most = min(self._block, end - run.reached)
        return fitting_read(most, self._before_next(run)) if self._is_to_request() else most

    def _finish(self, source: Source, run: Run, requested: int | None) -> None:
        """Brings a run to its end, taking up what breaks off; each byte more is a fresh start.

        Args:
            source: This connection's.
            run: The run.
            requested: Where a request ends that was made for it already.
        """
        shared = self._shared
        failures, furthest, breaks = 0, run.reached, 0
        while shared.pieces.next_block(run, 1) and not self._is_over():
            begun, asked = run.reached, requested or self._end_of_request(run)
            requested = None
            try:
                self._fetch(source, run, asked)
                self._note_answer(run, begun, asked)
            except TransferError as exc:
                if run.lost or self._is_over():
                    return
                self._note_answer(run, begun, asked)
                came = run.reached - furthest
                furthest = max(furthest, run.reached)
                failures = 1 if came > 0 else failures + 1
                breaks = breaks + 1 if 0 < came < WORTH else 0
                paid = came > 0 and breaks <= BREAKS and not shared.whole
                if paid and isinstance(exc, InterruptedTransferError):
                    # a server or a proxy that cuts answers: it delivers, so nothing is waited for
                    self._pause(exc, failures, AT_ONCE_S)
                    continue
                if isinstance(exc, PartRefusedError) and failures >= _REFUSALS:
                    raise RangesUnsupportedError(exc.message) from exc
                self._wait(exc, failures)

    def _wait(self, error: TransferError, failures: int) -> None:
        delay = self._shared.backoff.delay(failures, error)
        if delay is None:
            raise error
        self._pause(error, failures, delay)

    def _pause(self, error: TransferError, failures: int, delay: float) -> None:
        with self._shared.lock:
            self._shared.notices.append((error.message, failures, delay))
        self._shared.stop.wait(delay)

    def _end_of_request(self, run: Run) -> int:
        """The end of a run; beyond it where answers are cut, as far as makes up for that.

        Where each answer is cut at its half, a run would else take one for each halving of it.
        """
        pieces = self._shared.pieces
        end = min(run.end * pieces.piece, pieces.size)
        with self._shared.lock:
            if self._shared.cut.bytes is not None:
                return run.reached + self._shared.cut.ask(end - run.reached)
        if self._cuts < _CUTS:
            return end
        # bounded: a multiple of a number of bytes
        return min(pieces.size, run.reached + int((end - run.reached) / self._share) + 1)

    def _note_answer(self, run: Run, begun: int, asked: int) -> None:
        """Account for how much of what was requested has come."""
        wanted = min(run.end * self._shared.pieces.piece, asked)
        if run.reached > begun:
            with self._shared.lock:
                self._shared.cut.note(run.reached - begun, wanted - begun)
        if run.reached >= wanted:
            # one more that breaks off, and more is requested again
            self._cuts = _CUTS - 1 if self._cuts >= _CUTS else 0
        elif run.reached > begun:
            self._cuts += 1
            self._share = max(_LEAST_SHARE, (run.reached - begun) / (asked - begun))

    def _fetch(self, source: Source, run: Run, end: int) -> None:
        shared = self._shared
        stop: int | None = end
        if shared.whole:
            shared.pieces.restart(run)
            stop = None
        asked = time.monotonic()
        with source.open_blob(shared.reference, shared.descriptor, run.reached, stop) as stream:
            self._stream = stream
            shared.arriving = shared.arriving or stream.arriving
            took = time.monotonic() - asked if stream.latency_s is None else stream.latency_s
            shared.latency_s = min(took, shared.latency_s or took)
            try:
                if shared.stop.is_set():
                    # whoever breaks connections off has been here before there was a stream
                    return
                self._drain(stream, run, stream.place or source.name, stop)
            finally:
                self._stream = None

    def _drain(self, stream: BlobStream, run: Run, place: str, stop: int | None) -> None:
        shared, pieces = self._shared, self._shared.pieces
        end = pieces.size if stop is None else stop
        while not self.surplus and (wanted := pieces.next_block(run, self._next_read(run, end))):
            buffer = self._buffer = self._room()
            view = memoryview(buffer)
            ready = stream.waiting()
            begun = time.monotonic()
            count = stream.readinto(view[:wanted])
            if count == 0:
                raise InterruptedTransferError(
                    f"connection lost: blob {shared.descriptor.digest.short} stopped at "
                    f"{run.reached} of {pieces.size} bytes"
                )
            self.flowing = True
            self._adapt(count, ready, time.monotonic() - begun)
            if shared.stop.is_set() or not self._keep(view[:count], run):
                return
            if shared.hasher.hand(run, buffer, count):
                self._buffer = None
            with shared.lock:
                shared.received += count
                shared.origins[place] = shared.origins.get(place, 0) + count
            self._finish_pieces(run)
            self._request_next(run)
            shared.throttle.take(count)

    def _room(self) -> bytearray:
        """A buffer for a block: a large one only where there is one connection."""
        size = BLOCK if self._block > _SHARED_BLOCK else _SHARED_BLOCK
        if self._buffer is None:
            return self._shared.hasher.another(size)
        return self._buffer if len(self._buffer) >= size else bytearray(size)

    def _keep(self, block: memoryview, run: Run) -> bool:
        """Writes a block, unless somebody else has taken over meanwhile."""
        with run.writing:
            if run.lost:
                return False
            with disk_errors(self._shared.place):
                write_at(self._shared.handle, block, run.reached)
        return True

    def _finish_pieces(self, run: Run) -> None:
        pieces, first = self._shared.pieces, []
        while run.first < run.end and run.reached >= pieces.span(run.first)[1]:
            index = run.first
            if pieces.finish(run, index):
                first.append(index)
        if first:
            with self._shared.lock:
                self._shared.journal.add(*first)

    def _adapt(self, count: int, ready: int, took: float) -> None:
        enough = ready >= min(self._block, _AMPLE)
        self.blocks += 1
        self.ample += _MEMORY * (enough - self.ample)
        if self._shared.throttle.block is None:
            alone = self._shared.connections == 1
            self._block = fitting_block(self._block, count, took, enough=enough, alone=alone)


def more_comes_than_is_read(workers: Iterable[Worker]) -> bool:
    """Whether this machine is what limits, as most connections see it.

    Those that have ended saw it when they did, and say nothing of what comes now.
    """
    reading = [worker.ample for worker in workers if worker.flowing and worker.is_alive()]
    return sum(reading) > _AMPLE_SHARE * len(reading)


def fitting_read(most: int, before: int) -> int:
    """How many bytes to read where the next run is requested before this one ends.

    A larger read would have it requested earlier: what comes of it meanwhile is in memory alone,
    and lost with the process.

    Args:
        most: The bytes of a block.
        before: Those that come before the request is due; none or fewer where it is.
    """
    return min(most, max(before, _SMALLEST)) if before > 0 else most


def fitting_block(block: int, count: int, took: float, *, enough: bool, alone: bool) -> int:
    """How many bytes to read next: more on a fast line, fewer on a slow: progress stays alive.

    Args:
        block: How many were to be read.
        count: How many came.
        took: Seconds that they took.
        enough: Whether more was waiting to be read than this machine takes.
        alone: Whether there is one connection.
    """
    largest = BLOCK if alone else _SHARED_BLOCK
    if count == block and (enough or took < _QUICK_S):
        return min(largest, block * 2)
    if took > _LONG_S and not enough:
        block = max(_SMALLEST // 4, block // 2)
    return min(largest, block)
