"""One blob from a source into the store: over several connections, resumed, verified.

What turns out to be wrong at its end is downloaded once more from the start, and where several
places have delivered, once for each: an old partial may have been the reason, or one of them.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from modelrunner.errors import (
    DigestMismatchError,
    ModelRunnerError,
    SizeMismatchError,
    TransferError,
)
from modelrunner.events import Listener, Retrying, Skipped, Started, Verified, Waiting
from modelrunner.frozen import field, frozen
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.fallback import PROVEN
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Source
from modelrunner.store.blobs import BlobStore
from modelrunner.transfer.budget import Budget
from modelrunner.transfer.carrier import Failure
from modelrunner.transfer.engine import Arrived, Engine, OnPieces, first_end, unread
from modelrunner.transfer.fetched import NOTHING, Fetched
from modelrunner.transfer.pieces import PIECE
from modelrunner.transfer.small import SmallBlobs
from modelrunner.transfer.sources import SourcePool

_TICK_S = 0.05


class Next(NamedTuple):
    """A blob that is fetched next; `is_small` where that is by `fetch_many`."""

    descriptor: Descriptor
    is_small: bool


@frozen
class Fetcher:
    """Fetches blobs of one model into one store; every connection has a source of its own."""

    reference: Reference
    sources: SourcePool
    blobs: BlobStore
    listener: Listener
    backoff: Backoff = field(default_factory=Backoff)
    budget: Budget = field(default_factory=Budget)
    piece: int = PIECE
    on_pieces: OnPieces = unread
    in_order: bool = False

    def fetch(self, descriptor: Descriptor, title: str, then: Sequence[Next] = ()) -> Fetched:
        """Brings a blob here, unless it is here.

        Args:
            descriptor: The blob.
            title: What it is called.
            then: What is fetched next and may be requested already, where no other process brings
                the first one.

        Raises:
            IntegrityError: The source serves wrong bytes, twice.
            TransferError, AccessError, NotFoundError: The source does not deliver.
            DiskFullError, StoreAccessError: It cannot be written; what came is kept.
            CancelledError: The budget was called off; what came is kept.
        """
        wrong: Counter[str] = Counter()
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(descriptor, title, wrong, then)
            except (DigestMismatchError, SizeMismatchError) as exc:
                wrong.update(_suspects(exc))
                # each place may have been the wrong one, and an old partial too
                if attempt > max(1, len(wrong)):
                    raise
                then = ()
                self.listener(Retrying(str(descriptor.digest), exc.message, attempt, 0.0))

    def fetch_many(
        self,
        entries: Sequence[Descriptor],
        titles: Mapping[Digest, str],
        on_here: Callable[[Descriptor], None],
    ) -> list[Fetched]:
        """Brings small blobs here, those that are not here, several at once.

        Args:
            entries: The blobs, each small enough for one connection.
            titles: What they are called.
            on_here: Called with each that is here; raises where it will not do.

        Raises:
            ModelRunnerError: As `fetch` does.
        """
        found: list[Fetched] = []
        taken: list[Descriptor] = []
        rest, failures = list(entries), 0
        while rest:
            small = SmallBlobs(
                self.reference,
                lambda: self._open_source({}),
                self.blobs,
                self.listener,
                self.backoff,
                self.budget,
                failures,
            )
            brought = small.bring(rest, titles, on_here)
            found += brought.fetched
            taken += brought.taken
            rest, failures = brought.rest, failures + 1
            self._wait(brought.failed)
            for entry, _ in brought.failed:
                found.append(self.fetch(entry, titles[entry.digest]))
                on_here(entry)
        for entry in taken:
            found.append(self.fetch(entry, titles[entry.digest]))
            on_here(entry)
        return found

    def _wait(self, failures: Sequence[Failure]) -> None:
        """Waits as long as one of the failures asks for, so that nobody is asked again at once."""
        delay = 0.0
        for entry, error in failures:
            if not isinstance(error, TransferError):
                continue
            asked = self.backoff.delay(1, error)
            if asked is not None:
                self.listener(Retrying(str(entry.digest), error.message, 1, asked))
                delay = max(delay, asked)
        end = time.monotonic() + delay
        while (left := end - time.monotonic()) > 0:
            self.budget.check()
            time.sleep(min(left, _TICK_S, self.backoff.remaining_s()))

    def _open_source(self, wrong: Mapping[str, int]) -> Source:
        source = self.sources.take()
        source.distrust(wrong)
        return source

    def _attempt(
        self,
        descriptor: Descriptor,
        title: str,
        wrong: Mapping[str, int],
        then: Sequence[Next],
    ) -> Fetched:
        digest = str(descriptor.digest)
        waiting = Waiting(digest, title)
        with self.blobs.arrival(descriptor, lambda: self.listener(waiting)) as arrival:
            if arrival is None:
                self.listener(Skipped(digest, descriptor.size, title))
                return NOTHING
            for following in then:
                entry = following.descriptor
                end = entry.size if following.is_small else first_end(entry, self.budget)
                self.sources.request_ahead(self.reference, entry, end)
            engine = Engine(
                self.reference,
                lambda: self._open_source(wrong),
                self.listener,
                self.budget,
                self.backoff,
                self.piece,
                self.on_pieces,
                self.in_order,
                lambda part: self.sources.request_next(self.reference, descriptor, part, wrong),
            )
            arrived = engine.fill(
                descriptor,
                arrival.file,
                arrival.journal,
                lambda resumed: self.listener(Started(digest, descriptor.size, resumed, title)),
            )
            _check(arrived, descriptor)
        self.listener(Verified(digest, descriptor.size))
        return Fetched(arrived.downloaded, arrived.resumed, arrived.origins)


def _suspects(error: ModelRunnerError) -> Mapping[str, int]:
    """Who may have delivered wrong bytes; one alone has."""
    places = error.places if isinstance(error, DigestMismatchError) else ()
    return dict.fromkeys(places, PROVEN if len(places) == 1 else 1)


def _check(arrived: Arrived, descriptor: Descriptor) -> None:
    if arrived.digest != descriptor.digest:
        raise DigestMismatchError(
            f"expected {descriptor.digest}, got {arrived.digest}",
            hint="try again, or pull from another registry or mirror; nothing was stored",
            expected=str(descriptor.digest),
            got=str(arrived.digest),
            places=list(arrived.origins),
        )
