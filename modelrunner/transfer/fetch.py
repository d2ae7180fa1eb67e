"""One blob from a source into the store: over several connections, resumed, verified.

What turns out to be wrong at its end is downloaded once more from the start, and where several
places have delivered, once for each: an old partial may have been the reason, or one of them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelrunner.errors import DigestMismatchError, ModelRunnerError, SizeMismatchError
from modelrunner.events import Listener, Retrying, Skipped, Started, Verified, Waiting
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.reference import Reference
from modelrunner.registry.fallback import PROVEN
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Source
from modelrunner.store.blobs import BlobStore
from modelrunner.transfer.budget import Budget
from modelrunner.transfer.engine import Arrived, Engine, first_end
from modelrunner.transfer.pieces import PIECE
from modelrunner.transfer.sources import SourcePool


@dataclass(frozen=True, slots=True)
class Fetched:
    """What it took, see `Arrived`; nothing for a blob that was here."""

    downloaded: int
    resumed: int
    origins: Mapping[str, int]


_NOTHING = Fetched(0, 0, {})


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches blobs of one model into one store; every connection has a source of its own."""

    reference: Reference
    sources: SourcePool
    blobs: BlobStore
    listener: Listener
    backoff: Backoff = field(default_factory=Backoff)
    budget: Budget = field(default_factory=Budget)
    piece: int = PIECE

    def fetch(self, descriptor: Descriptor, title: str, then: Descriptor | None = None) -> Fetched:
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
                then = None
                self.listener(Retrying(str(descriptor.digest), exc.message, attempt, 0.0))

    def _attempt(
        self,
        descriptor: Descriptor,
        title: str,
        wrong: Mapping[str, int],
        then: Descriptor | None,
    ) -> Fetched:
        def open_source() -> Source:
            source = self.sources.take()
            source.distrust(wrong)
            return source

        digest = str(descriptor.digest)
        waiting = Waiting(digest, title)
        with self.blobs.arrival(descriptor, lambda: self.listener(waiting)) as arrival:
            if arrival is None:
                self.listener(Skipped(digest, descriptor.size, title))
                return _NOTHING
            if then is not None:
                end = first_end(then, self.budget)
                self.sources.request_ahead(self.reference, then, end)
            engine = Engine(
                self.reference, open_source, self.listener, self.budget, self.backoff, self.piece
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
