"""One connection of a transfer: a thread that claims runs of pieces and brings them to disk.

It ends when there is nothing left to do, or when it has failed too often without a byte; then
the others go on without it. What it could not finish it gives back.
"""

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread

from modelrunner.disk.files import disk_errors
from modelrunner.errors import (
    InterruptedTransferError,
    PartRefusedError,
    RangesUnsupportedError,
    TransferError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import BlobStream, Source
from modelrunner.store.journal import Journal
from modelrunner.transfer.hasher import FrontHasher
from modelrunner.transfer.limits import Throttle
from modelrunner.transfer.pieces import Pieces, Run

_SMALLEST, _LARGEST = 64 * 1024, 1024 * 1024
_QUICK_S, _LONG_S = 0.01, 0.1
_IDLE_S = 0.05
_RENEWALS = 2
AT_ONCE_S = 0.001
"""The wait after an answer that broke off and has delivered."""

_WORTH = 64 * 1024
"""Bytes of one answer that are worth asking for the next one at once."""

_BREAKS = 3
"""Answers in a row that may break off below that, until a wait comes between them."""

_REFUSALS = 3
"""Refusals of a part in a row: no address has expired that often."""


@dataclass(slots=True)
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
    stop: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)
    received: int = 0
    origins: dict[str, int] = field(default_factory=dict)
    notices: list[tuple[str, int, float]] = field(default_factory=list)
    reason: str | None = None
    connections: int = 0
    whole: bool = False


class Worker(Thread):
    """One connection.

    `flowing` says whether it has delivered a byte, `error` why it gave up; None where it ended in
    peace.
    """

    def __init__(self, shared: Shared, number: int) -> None:
        super().__init__(name=f"connection-{number}", daemon=True)
        self._shared = shared
        self._stream: BlobStream | None = None
        self._buffer = bytearray(_LARGEST)
        self._block = min(_LARGEST, shared.throttle.block or _SMALLEST)
        self._run: Run | None = None
        self._renewals = 0
        self.flowing = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """Works until nothing is left, or nothing works."""
        try:
            with closing(self._shared.open_source()) as source:
                self._work(source)
        except BaseException as exc:  # noqa: BLE001 - raised where the transfer is watched
            self.error = exc
        finally:
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
        while not shared.stop.is_set() and not pieces.complete:
            now = time.monotonic()
            run = pieces.claim(shared.connections, now) or pieces.steal(now)
            if run is None:
                with pieces.changed:
                    pieces.changed.wait(_IDLE_S)
                continue
            self._run = run
            try:
                self._finish(source, run)
            finally:
                self._run = None
                pieces.give_back(run, time.monotonic())

    def _finish(self, source: Source, run: Run) -> None:
        """Brings a run to its end, taking up what breaks off; each byte more is a fresh start."""
        shared = self._shared
        failures, furthest, breaks = 0, run.reached, 0
        while shared.pieces.next_block(run, 1) and not shared.stop.is_set():
            try:
                self._fetch(source, run)
            except TransferError as exc:
                if run.lost or shared.stop.is_set():
                    return
                came = run.reached - furthest
                furthest = max(furthest, run.reached)
                failures = 1 if came > 0 else failures + 1
                breaks = breaks + 1 if 0 < came < _WORTH else 0
                paid = came > 0 and breaks <= _BREAKS and not shared.whole
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

    def _fetch(self, source: Source, run: Run) -> None:
        shared = self._shared
        stop: int | None = min(run.end * shared.pieces.piece, shared.pieces.size)
        if shared.whole:
            shared.pieces.restart(run)
            stop = None
        with source.open_blob(shared.reference, shared.descriptor, run.reached, stop) as stream:
            self._stream = stream
            try:
                if shared.stop.is_set():
                    # whoever breaks connections off has been here before there was a stream
                    return
                self._drain(stream, run, stream.place or source.name)
            finally:
                self._stream = None

    def _drain(self, stream: BlobStream, run: Run, place: str) -> None:
        shared, pieces = self._shared, self._shared.pieces
        while wanted := pieces.next_block(run, self._block):
            begun = time.monotonic()
            view = memoryview(self._buffer)
            count = stream.readinto(view[:wanted])
            if count == 0:
                raise InterruptedTransferError(
                    f"connection lost: blob {shared.descriptor.digest.short} stopped at "
                    f"{run.reached} of {pieces.size} bytes"
                )
            self.flowing = True
            self._adapt(count, time.monotonic() - begun)
            if shared.stop.is_set() or not self._keep(view[:count], run):
                return
            self._buffer = shared.hasher.hand(run, self._buffer, count)
            with shared.lock:
                shared.received += count
                shared.origins[place] = shared.origins.get(place, 0) + count
            self._finish_pieces(run)
            shared.throttle.take(count)

    def _keep(self, block: memoryview, run: Run) -> bool:
        """Writes a block, unless somebody else has taken over meanwhile."""
        with run.writing:
            if run.lost:
                return False
            self._write(block, run.reached)
        return True

    def _write(self, block: memoryview, offset: int) -> None:
        with disk_errors(self._shared.place):
            while block:
                written = os.pwrite(self._shared.handle, block, offset)
                block, offset = block[written:], offset + written

    def _finish_pieces(self, run: Run) -> None:
        pieces = self._shared.pieces
        while run.first < run.end and run.reached >= pieces.span(run.first)[1]:
            index = run.first
            if pieces.finish(run, index):
                with self._shared.lock:
                    self._shared.journal.add(index)

    def _adapt(self, count: int, took: float) -> None:
        """Larger blocks on a fast line, smaller ones on a slow: the progress stays alive."""
        if self._shared.throttle.block is not None:
            return
        if count == self._block and took < _QUICK_S:
            self._block = min(_LARGEST, self._block * 2)
        elif took > _LONG_S:
            self._block = max(_SMALLEST // 4, self._block // 2)
