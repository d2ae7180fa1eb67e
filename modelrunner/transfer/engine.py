"""One blob over several connections into one file, hashed on the way.

The calling thread watches: it starts connections, calls the listener, and takes
a Ctrl-C. A source without ranges gets one connection and one stream.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from modelrunner.disk.files import disk_errors
from modelrunner.errors import RangesUnsupportedError, TransferError
from modelrunner.events import Advanced, Listener, Retrying
from modelrunner.frozen import field, frozen
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Source
from modelrunner.store.journal import Journal
from modelrunner.transfer.budget import Budget
from modelrunner.transfer.hasher import FrontHasher
from modelrunner.transfer.limits import DISTANT_S, Growth
from modelrunner.transfer.pieces import PIECE, Pieces
from modelrunner.transfer.worker import RequestNext, Shared, Worker, more_comes_than_is_read

_TICK_S = 0.05
_QUICK_TICK_S = 0.01
_PARTING_S = 1.0

OnPieces = Callable[[Pieces, Path], None]


def unread(_pieces: Pieces, _path: Path) -> None:
    """Nobody reads what arrives."""


@frozen
class Arrived:
    """What a transfer came to.

    Attributes:
        digest: Of all bytes.
        downloaded: Bytes of the blob that came over the network; what came twice counts once.
        resumed: Bytes of the blob that an earlier try has left.
        origins: Bytes that each place has delivered, with what came twice.
    """

    digest: Digest
    downloaded: int
    resumed: int
    origins: Mapping[str, int]


@frozen
class Engine:
    """Fetches blobs; `open_source` gives each connection a source of its own.

    `budget` is how many connections there may be, together with those of other transfers;
    `on_pieces` is called with what arrives and its file, for who reads it meanwhile. `in_order`
    keeps connections close together, so that the front gets on as fast as the whole. `request_next`
    makes a request that `open_source` gives the answer to.
    """

    reference: Reference
    open_source: Callable[[], Source]
    listener: Listener
    budget: Budget = field(default_factory=Budget)
    backoff: Backoff = field(default_factory=Backoff)
    piece: int = PIECE
    on_pieces: OnPieces = unread
    in_order: bool = False
    request_next: RequestNext | None = None

    def fill(
        self,
        descriptor: Descriptor,
        file: IO[bytes],
        journal: Path,
        on_start: Callable[[int], None],
    ) -> Arrived:
        """Brings all bytes of a blob into a file.

        Args:
            descriptor: The blob.
            file: Open for reading and writing; what the journal says is there is kept.
            journal: The journal's path.
            on_start: Hears how many bytes are here from an earlier try.

        Raises:
            TransferError, AccessError, NotFoundError: No connection gets any further.
            SizeMismatchError: The blob is announced with another size.
            DiskFullError, StoreAccessError: It cannot be written.
            CancelledError: The budget was called off; what came is kept.
        """
        # a handle of our own: a thread that is late must not write into somebody else's file
        handle = os.dup(file.fileno())
        piece = self.piece
        with Journal(journal, descriptor.size, piece) as notes:
            noted = _noted(notes, os.fstat(handle).st_size, descriptor.size, piece)
            with disk_errors(journal.with_suffix(".partial")):
                os.ftruncate(handle, descriptor.size)
            pieces = Pieces(descriptor.size, noted, piece, in_order=self.in_order)
            on_start(pieces.done_bytes())
            self.on_pieces(pieces, journal.with_suffix(".partial"))
            hasher = FrontHasher(handle, pieces)
            shared = Shared(
                self.reference,
                descriptor,
                pieces,
                hasher,
                notes,
                handle,
                journal.with_suffix(".partial"),
                self.budget.throttle,
                self.backoff,
                self.open_source,
                self._requests_next(),
            )
            resumed = pieces.done_bytes()
            try:
                self._transfer(shared)
                digest = hasher.digest()
            finally:
                hasher.stop()
                os.close(handle)
        if shared.whole:
            # a stream without ranges brings everything again
            resumed = 0
        return Arrived(digest, descriptor.size - resumed, resumed, dict(shared.origins))

    def _requests_next(self) -> RequestNext | None:
        """None where that would be one connection more than the user allows, or too fast."""
        limits = self.budget.limits
        allowed = limits.connections is None and limits.rate is None
        return self.request_next if allowed else None

    def _transfer(self, shared: Shared) -> None:
        workers: list[Worker] = []
        try:
            self._watch(shared, workers, Growth(self.budget.limits.connections))
        except RangesUnsupportedError:
            self._part(shared, workers)
            workers.clear()
            shared.stop.clear()
            shared.whole = True
            self._watch(shared, workers, Growth(1))
        finally:
            self._part(shared, workers)
            self.budget.leave(shared.pieces)

    def _watch(self, shared: Shared, workers: list[Worker], growth: Growth) -> None:
        pieces = shared.pieces
        reported = -1
        granted = 0
        while not pieces.complete:
            done = pieces.done_bytes()
            if done != reported:
                reported = done
                self.listener(Advanced(str(shared.descriptor.digest), pieces.size, done))
            self._tell(shared)
            if self.backoff.deadline is not None and self.backoff.deadline <= time.monotonic():
                raise self.backoff.timed_out(shared.reason, kept=done > 0)
            self.budget.check()
            self._observe(shared, workers, growth, granted)
            self._check(workers, pieces)
            if shared.arriving:
                growth.stay_with_one()
            shared.connections = growth.expected
            granted = self._staff(shared, workers, growth.wanted)
            for worker in workers:
                worker.renew(time.monotonic())
            with pieces.changed:
                if not pieces.complete:
                    quiet = growth.settled or growth.ample
                    pieces.changed.wait(_TICK_S if quiet else _QUICK_TICK_S)
        self._tell(shared)
        self.listener(Advanced(str(shared.descriptor.digest), pieces.size, pieces.size))

    def _observe(self, shared: Shared, workers: list[Worker], growth: Growth, granted: int) -> None:
        flowing = [worker for worker in workers if worker.flowing]
        count = sum(1 for worker in flowing if not worker.surplus)
        if count >= granted > 0:
            # others have the rest: it is to be judged by those that it has
            count = max(count, growth.wanted)
        # where answers are short, it is the next one that is waited for
        ample = shared.cut.bytes is None and more_comes_than_is_read(workers)
        blocks = sum(worker.blocks for worker in flowing)
        distant = shared.latency_s >= DISTANT_S
        growth.observe(
            time.monotonic(), shared.received, count, ample=ample, blocks=blocks, distant=distant
        )

    def _staff(self, shared: Shared, workers: list[Worker], wanted: int) -> int:
        """Starts connections, as many as are wanted, have something to do, and may be had.

        Returns:
            How many those are, where others have more; else 0.
        """
        given_up = sum(1 for worker in workers if worker.error is not None)
        working = [worker for worker in workers if worker.is_alive() and not worker.surplus]
        for worker in working[max(1, wanted) :]:
            worker.surplus = True
        alive = min(len(working), max(1, wanted))
        useful = min(wanted, shared.pieces.count) - given_up
        useful = max(useful, 1 if not workers else 0)
        granted = self.budget.grant(shared.pieces, useful, alive)
        for number in range(alive, granted):
            worker = Worker(shared, number)
            workers.append(worker)
            worker.start()
        return granted if granted < useful else 0

    def _check(self, workers: list[Worker], pieces: Pieces) -> None:
        """Raises what ended the work; while one connection gets on, the others' errors wait."""
        failed = [worker.error for worker in workers if worker.error is not None]
        final = [error for error in failed if not isinstance(error, TransferError)]
        ranges = [error for error in failed if isinstance(error, RangesUnsupportedError)]
        for error in (*final, *ranges):
            raise error
        alive = any(worker.is_alive() for worker in workers)
        # the last of them may have ended because everything has come
        if failed and not alive and not pieces.complete:
            raise failed[-1]

    def _tell(self, shared: Shared) -> None:
        with shared.lock:
            notices, shared.notices = shared.notices, []
        for reason, attempt, delay in notices:
            shared.reason = reason
            self.listener(Retrying(str(shared.descriptor.digest), reason, attempt, delay))

    def _part(self, shared: Shared, workers: list[Worker]) -> None:
        """Ends all connections; one that is stuck is left behind, and writes nothing more."""
        shared.stop.set()
        for worker in workers:
            worker.abort()
        deadline = time.monotonic() + _PARTING_S
        for worker in workers:
            # a signal may come while one is started: it has nothing to end yet
            if worker.is_alive():
                worker.join(max(0.0, deadline - time.monotonic()))


def first_end(descriptor: Descriptor, budget: Budget) -> int:
    """Where the part ends that a transfer of a blob of which nothing is here requests first."""
    pieces = Pieces(descriptor.size)
    run = pieces.claim(Growth(budget.limits.connections).expected, 0.0)
    return 0 if run is None else pieces.span(run.end - 1)[1]


def _noted(notes: Journal, there: int, size: int, piece: int) -> list[int]:
    """The pieces that an earlier try has left."""
    noted = notes.load() if there == size else []
    if not noted:
        notes.reset()
        # a file without a journal was written from the front
        noted = list(range(there // piece)) if there < size else []
        if noted:
            notes.add(*noted)
    return noted
