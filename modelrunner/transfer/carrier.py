"""One connection for small blobs: a thread that brings one after the other, each from its front.

A blob is read, written and hashed block by block, flushed, and named. An answer that breaks off
after it has delivered is taken up where it ended; whatever else goes wrong is left to the engine.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread
from threading import Event as Signal
from typing import TYPE_CHECKING, NamedTuple

from modelrunner.disk.files import disk_error, is_of_disk, write_at
from modelrunner.errors import DigestMismatchError, InterruptedTransferError, ModelRunnerError
from modelrunner.events import Advanced, Event, Retrying, Skipped, Started, Verified
from modelrunner.frozen import field, record
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest, sha256
from modelrunner.oci.reference import Reference
from modelrunner.registry.source import BlobStream, Source
from modelrunner.store.blobs import Arrival, BlobStore
from modelrunner.store.writer import NewFiles
from modelrunner.transfer.fetched import NOTHING, Fetched
from modelrunner.transfer.limits import CutLength, Throttle
from modelrunner.transfer.worker import AT_ONCE_S, BREAKS, WORTH

if TYPE_CHECKING:
    import hashlib

MOVING = 16 * 1024 * 1024
"""Bytes that are still to come of blobs that are on their way, where more comes than this machine
takes: what waits in its sockets is lost with the process."""

BLOCK = 1024 * 1024
"""Bytes to read at once; half of it costs measurably more, twice as much no less."""

_AMPLE = 256 * 1024
_MEMORY, _HALF = 0.2, 0.5
_IDLE_S = 0.05


class _OthersError(Exception):
    """The blob is not for this thread: another process brings it, or the engine has begun it."""


class _EndedError(Exception):
    """The transfer is over."""


class News(NamedTuple):
    """What a connection has to say; `fetched` with the blob that is here."""

    events: tuple[Event, ...]
    entry: Descriptor
    fetched: Fetched | None = None


class Failure(NamedTuple):
    """A blob that did not come, and why; no error where all was ended."""

    entry: Descriptor
    error: Exception | None


@record
class Load:
    """What all connections share.

    Attributes:
        reference: The model.
        titles: What the blobs are called.
        blobs: Where they go.
        open_source: Gives each connection a source of its own.
        throttle: Lets bytes through.
        pending: Blobs that nobody has begun.
        files: Makes the files of blobs of which nothing is there.
        failed: Those that did not come; where there is one, no further one is begun.
        taken: Those that another process brings.
        news: For the thread that watches.
        over: Set when a connection has ended, for the thread that watches.
        changed: Notified when a blob has ended that others may wait for; guards what follows.
        working: How many connections there are.
        moving: Bytes that are still to come of the blobs that are on their way.
        ample: How often, of late, more was there to be read than was asked for: from 0 to 1.
        cut: After how many bytes answers break off.
        stopped: Whether all is to end.
    """

    reference: Reference
    titles: Mapping[Digest, str]
    blobs: BlobStore
    open_source: Callable[[], Source]
    throttle: Throttle
    pending: deque[Descriptor]
    files: NewFiles
    failed: list[Failure] = field(default_factory=list)
    taken: list[Descriptor] = field(default_factory=list)
    news: SimpleQueue[News] = field(default_factory=SimpleQueue)
    over: Signal = field(default_factory=Signal)
    changed: Condition = field(default_factory=Condition)
    working: int = 0
    moving: int = 0
    ample: float = 1.0
    cut: CutLength = field(default_factory=CutLength)
    stopped: bool = False

    @property
    def has_more(self) -> bool:
        """Whether there is a blob to begin."""
        return bool(self.pending) and not self.failed and not self.stopped

    def begin(self) -> None:
        """One connection more."""
        with self.changed:
            self.working += 1

    def leave(self) -> None:
        """One connection less."""
        with self.changed:
            self.working -= 1
        self.over.set()

    def stop(self) -> None:
        """Ends all; no blob gets its name that is not whole by now."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def next(self) -> Descriptor | None:
        """The next blob, which is on its way from now on; None where none is to be begun."""
        with self.changed:
            while self.has_more:
                size = self.pending[0].size
                if self.ample < _HALF or not self.moving or self.moving + size <= MOVING:
                    self.moving += size
                    return self.pending.popleft()
                self.changed.wait(_IDLE_S)
        return None

    @property
    def block(self) -> int:
        """Bytes to read at once."""
        return min(BLOCK, self.throttle.block or BLOCK)

    def note_here(self, count: int) -> None:
        """Account for bytes of a blob that are on the disk."""
        with self.changed:
            self.moving -= count
            self.changed.notify()

    def note_ready(self, ready: int, wanted: int) -> None:
        """Account for the bytes that waited to be read, of those that were asked for."""
        if wanted >= _AMPLE:
            self.ample += _MEMORY * ((ready >= _AMPLE) - self.ample)

    def stop_of(self, entry: Descriptor, offset: int) -> int:
        """Where a request for a blob from an offset on ends."""
        with self.changed:
            return offset + self.cut.ask(entry.size - offset)

    def note_answer(self, came: int, asked: int) -> None:
        """Account for an answer."""
        if came:
            with self.changed:
                self.cut.note(came, asked)

    def end(self, left: int, failure: Failure | None = None) -> None:
        """A blob is not on its way any more; `left` is how many of its bytes have not come."""
        with self.changed:
            self.moving -= left
            if failure is not None:
                self.failed.append(failure)
                self.changed.notify_all()
            else:
                self.changed.notify()


class Carrier(Thread):
    """One connection.

    Attributes:
        error: A bug, or why there is no source; None if neither.
    """

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(name=f"small-{number}", daemon=True)
        self._load = load
        self._view = memoryview(bytearray(BLOCK))
        self._stream: BlobStream | None = None
        self._events: list[Event] = []
        self._reached, self._noted = 0, 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Works until nothing is left."""
        load = self._load
        try:
            with closing(load.open_source()) as source:
                while (entry := load.next()) is not None:
                    self._carry(source, entry)
        except BaseException as exc:  # noqa: BLE001 - raised where the transfer is watched
            self.error = exc
        finally:
            load.leave()

    def abort(self) -> None:
        """Breaks the connection off, from another thread."""
        stream = self._stream
        if stream is not None:
            stream.abort()

    def _carry(self, source: Source, entry: Descriptor) -> None:
        load = self._load
        self._events, self._noted = [], 0
        failure: Failure | None = Failure(entry, None)
        try:
            fetched = self._brought(source, entry)
            digest = str(entry.digest)
            if fetched is None:
                self._events.append(Skipped(digest, entry.size, load.titles[entry.digest]))
            else:
                self._events.append(Verified(digest, entry.size))
            load.news.put(News(tuple(self._events), entry, fetched or NOTHING))
            failure = None
        except _OthersError:
            load.taken.append(entry)
            failure = None
        except (ModelRunnerError, OSError) as exc:
            # the engine tries again, and says what is wrong
            failure = Failure(entry, exc)
        except _EndedError:
            pass
        finally:
            load.end(entry.size - self._noted, failure)

    def _brought(self, source: Source, entry: Descriptor) -> Fetched | None:
        """Brings a blob and names it; None where it already exists."""
        new = self._load.files.make(entry.digest)
        if new is not None:
            with new:
                return self._fill(source, entry, new.handle, new.partial, 0, sha256())
        with self._load.blobs.arrival(entry, _refuse, one_of_many=True) as arrival:
            if arrival is None:
                return None
            hashed = sha256()
            resumed = self._recover(entry, arrival, hashed)
            handle, place = arrival.file.fileno(), str(arrival.partial)
            return self._fill(source, entry, handle, place, resumed, hashed)

    def _fill(
        self,
        source: Source,
        entry: Descriptor,
        handle: int,
        partial: str,
        resumed: int,
        hashed: "hashlib._Hash",
    ) -> Fetched:
        """Brings what is missing of a blob, which has no name yet."""
        load, digest = self._load, str(entry.digest)
        self._reached = resumed
        self._events.append(Started(digest, entry.size, resumed, load.titles[entry.digest]))
        origins: dict[str, int] = {}
        failures, breaks = 0, 0
        while self._reached < entry.size:
            begun, stop = self._reached, load.stop_of(entry, self._reached)
            try:
                self._take(source, entry, stop, (handle, partial, hashed, origins))
                load.note_answer(self._reached - begun, stop - begun)
            except InterruptedTransferError as exc:
                came = self._reached - begun
                load.note_answer(came, stop - begun)
                failures = 1 if came else failures + 1
                breaks = breaks + 1 if came < WORTH else 0
                if not came or breaks > BREAKS:
                    raise
                # a server or a proxy that cuts answers: it delivers, so nothing is waited for
                self._events.append(Retrying(digest, exc.message, failures, AT_ONCE_S))
        got = hashed.hexdigest()
        if got != entry.digest.hex:
            raise DigestMismatchError(f"expected {entry.digest}, got {Digest(got)}")
        return Fetched(entry.size - resumed, resumed, origins)

    def _recover(self, entry: Descriptor, arrival: Arrival, hashed: "hashlib._Hash") -> int:
        """How much of a blob an earlier try has left at its front, which is hashed."""
        there = os.fstat(arrival.file.fileno()).st_size
        if not there:
            return 0
        if arrival.journal.exists():
            # the engine has begun it, anywhere in the file
            raise _OthersError
        reached = 0
        while reached < min(there, entry.size):
            count = os.preadv(arrival.file.fileno(), [self._view], reached)
            if not count:
                break
            hashed.update(self._view[:count])
            reached += count
        return reached

    def _take(
        self,
        source: Source,
        entry: Descriptor,
        stop: int,
        to: "tuple[int, str, hashlib._Hash, dict[str, int]]",
    ) -> None:
        """Takes a part of a blob, from where it is to where the request ends.

        Args:
            source: Who has it.
            entry: The blob.
            stop: Where the request ends.
            to: The open file, its path, what hashes, and how much each place has delivered.

        Raises:
            InterruptedTransferError: It breaks off.
        """
        load, (handle, partial, hashed, origins) = self._load, to
        with source.open_blob(load.reference, entry, self._reached, stop) as stream:
            self._stream = stream
            place = stream.place or source.name
            try:
                while self._reached < stop:
                    if load.stopped:
                        # whoever breaks connections off may have been here before the stream
                        raise _EndedError
                    view = self._view[: min(load.block, stop - self._reached)]
                    if len(view) >= _AMPLE:
                        load.note_ready(stream.waiting(), len(view))
                    count = stream.readinto(view)
                    if load.stopped:
                        raise _EndedError
                    if not count:
                        raise InterruptedTransferError(
                            f"connection lost: blob {entry.digest.short} stopped at "
                            f"{self._reached} of {entry.size} bytes"
                        )
                    self._keep(handle, partial, view[:count])
                    hashed.update(view[:count])
                    self._reached += count
                    origins[place] = origins.get(place, 0) + count
                    self._events.append(Advanced(str(entry.digest), entry.size, self._reached))
                    if self._reached < entry.size:
                        self._tell(entry)
                        self._note()
                    load.throttle.take(count)
            finally:
                self._stream = None

    def _keep(self, handle: int, partial: str, block: memoryview) -> None:
        """Writes a block where the blob has got to."""
        try:
            write_at(handle, block, self._reached)
        except OSError as exc:
            if not is_of_disk(exc) or isinstance(exc, FileNotFoundError):
                raise
            raise disk_error(exc, Path(partial)) from exc

    def _note(self) -> None:
        """Accounts for what has come: as much of another blob may be on its way."""
        self._load.note_here(self._reached - self._noted)
        self._noted = self._reached

    def _tell(self, entry: Descriptor) -> None:
        """Says what there is to say before the blob is here."""
        events, self._events = self._events, []
        self._load.news.put(News(tuple(events), entry))


def _refuse() -> None:
    raise _OthersError
