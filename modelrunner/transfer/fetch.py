"""One blob from a source into the store: over several connections, resumed, verified.

What turns out to be wrong at its end is fetched once more from the start: an old partial may have
been the reason, or one of several places.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from modelrunner.errors import DigestMismatchError, SizeMismatchError
from modelrunner.events import Listener, Retrying, Skipped, Started, Verified, Waiting
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.retry import Backoff
from modelrunner.registry.source import Source
from modelrunner.store.blobs import BlobStore
from modelrunner.transfer.budget import Budget
from modelrunner.transfer.engine import Engine


@dataclass(frozen=True, slots=True)
class Fetched:
    """What it took: bytes that came over the network, and bytes that were here before."""

    downloaded: int
    resumed: int
    origins: tuple[str, ...]


_NOTHING = Fetched(0, 0, ())


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches blobs of one model into one store; every connection opens a source of its own."""

    reference: Reference
    open_source: Callable[[], Source]
    blobs: BlobStore
    listener: Listener
    backoff: Backoff = field(default_factory=Backoff)
    budget: Budget = field(default_factory=Budget)
    piece: int | None = None

    def fetch(self, descriptor: Descriptor, title: str) -> Fetched:
        """Brings a blob here, unless it is here.

        Raises:
            IntegrityError: The source serves wrong bytes, twice.
            TransferError, AccessError, NotFoundError: The source does not deliver.
            DiskFullError, StoreAccessError: It cannot be written; what came is kept.
            CancelledError: The budget was called off; what came is kept.
        """
        try:
            return self._attempt(descriptor, title, self.open_source)
        except (DigestMismatchError, SizeMismatchError) as exc:
            self.listener(Retrying(str(descriptor.digest), exc.message, 1, 0.0))
            return self._attempt(descriptor, title, self._distrusting)

    def _distrusting(self) -> Source:
        source = self.open_source()
        source.distrust()
        return source

    def _attempt(
        self, descriptor: Descriptor, title: str, open_source: Callable[[], Source]
    ) -> Fetched:
        digest = str(descriptor.digest)
        waiting = Waiting(digest, title)
        with self.blobs.arrival(descriptor, lambda: self.listener(waiting)) as arrival:
            if arrival is None:
                self.listener(Skipped(digest, descriptor.size, title))
                return _NOTHING
            engine = Engine(
                self.reference, open_source, self.listener, self.budget, self.backoff, self.piece
            )
            arrived = engine.fill(
                descriptor,
                arrival.file,
                arrival.journal,
                lambda resumed: self.listener(Started(digest, descriptor.size, resumed, title)),
            )
            _check(arrived.digest, descriptor)
        self.listener(Verified(digest, descriptor.size))
        return Fetched(arrived.downloaded, arrived.resumed, arrived.origins)


def _check(got: Digest, descriptor: Descriptor) -> None:
    if got != descriptor.digest:
        raise DigestMismatchError(
            f"expected {descriptor.digest}, got {got}",
            hint="the source serves other bytes than its manifest promises; nothing of it was"
            " stored",
            expected=str(descriptor.digest),
            got=str(got),
        )
