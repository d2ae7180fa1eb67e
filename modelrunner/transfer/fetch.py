"""One blob from a source into the store: resumed, retried, verified.

A stream that breaks is taken up where it stopped, as often as it makes progress; one that turns
out to be wrong at its end is fetched once more from the start, because an old partial may have been
the reason.
"""

from dataclasses import dataclass, field

from modelrunner.errors import (
    DigestMismatchError,
    InterruptedTransferError,
    SizeMismatchError,
    TransferError,
)
from modelrunner.events import Advanced, Listener, Retrying, Skipped, Started, Verified
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.reference import Reference
from modelrunner.registry.retry import Backoff
from modelrunner.registry.source import Source
from modelrunner.store.blobs import BlobStore, BlobWriter


@dataclass(frozen=True, slots=True)
class Fetched:
    """What it took: bytes that came over the network, and bytes that were here before."""

    downloaded: int
    resumed: int
    origin: str | None


@dataclass(slots=True)
class _Tally:
    downloaded: int = 0
    resumed: int = 0
    origin: str | None = field(default=None)


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches blobs of one model into one store."""

    reference: Reference
    source: Source
    blobs: BlobStore
    listener: Listener
    backoff: Backoff = field(default_factory=Backoff)

    def fetch(self, descriptor: Descriptor, title: str) -> Fetched:
        """Brings a blob here, unless it is here.

        Raises:
            IntegrityError: The source serves wrong bytes, twice.
            TransferError, AccessError, NotFoundError: The source does not deliver.
            DiskFullError, StoreAccessError: It cannot be written; what came is kept.
        """
        tally = _Tally()
        try:
            self._attempt(descriptor, title, tally)
        except (DigestMismatchError, SizeMismatchError) as exc:
            self.source.distrust()
            self.listener(Retrying(str(descriptor.digest), exc.message, 1, 0.0))
            tally.resumed = 0
            self._attempt(descriptor, title, tally)
        return Fetched(tally.downloaded, tally.resumed, tally.origin)

    def _attempt(self, descriptor: Descriptor, title: str, tally: _Tally) -> None:
        digest = str(descriptor.digest)
        with self.blobs.writer(descriptor) as writer:
            if writer is None:
                self.listener(Skipped(digest, descriptor.size, title))
                return
            tally.resumed = writer.offset
            self.listener(Started(digest, descriptor.size, writer.offset, title))
            self._fill(descriptor, writer, tally)
        self.listener(Verified(digest, descriptor.size))

    def _fill(self, descriptor: Descriptor, writer: BlobWriter, tally: _Tally) -> None:
        attempt = 0
        while writer.offset < descriptor.size:
            before = writer.offset
            try:
                self._stream(descriptor, writer, tally)
            except TransferError as exc:
                # progress renews the patience
                attempt = 1 if writer.offset > before else attempt + 1
                delay = self.backoff.delay(attempt, exc)
                if delay is None:
                    raise
                if exc.facts.get("restart"):
                    writer.resume_at(0)
                self.listener(Retrying(str(descriptor.digest), exc.message, attempt, delay))
                self.backoff.sleep(delay)

    def _stream(self, descriptor: Descriptor, writer: BlobWriter, tally: _Tally) -> None:
        with self.source.open_blob(self.reference, descriptor, writer.offset) as stream:
            if stream.offset != writer.offset:
                tally.resumed = 0
            writer.resume_at(stream.offset)
            tally.origin = stream.origin
            for chunk in stream.chunks:
                writer.write(chunk)
                tally.downloaded += len(chunk)
                self.listener(Advanced(str(descriptor.digest), descriptor.size, writer.offset))
        if writer.offset < descriptor.size:
            raise InterruptedTransferError(
                f"blob {descriptor.digest.short} broke off at {writer.offset} of"
                f" {descriptor.size} bytes",
                digest=str(descriptor.digest),
            )
