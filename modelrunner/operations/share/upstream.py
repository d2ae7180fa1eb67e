"""The registries behind a shared store: what it lacks is fetched while it is served, and kept.

What a tag stands for is asked again after some seconds; where the registry does not answer, what it
was the last time is served, and said. Content goes by its digest, so what is kept of it is right
for ever. However many clients ask for a blob, and in however many pieces, it is downloaded once.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Self, TypeVar, cast

from modelrunner.errors import (
    AccessError,
    ManifestNotFoundError,
    ModelRunnerError,
    TransferError,
    UnsupportedArtifactError,
)
from modelrunner.events import ignore
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer, list_of
from modelrunner.operations.share.cache import BlobCache
from modelrunner.operations.share.download import Download, OnPieces, Reader
from modelrunner.operations.share.metrics import ShareMetrics
from modelrunner.operations.share.names import Names, descriptor_of
from modelrunner.registry.registries import Registries
from modelrunner.share.repositories import RefusalError, Repository
from modelrunner.share.upstream import Content, WholeFile
from modelrunner.store.store import Store
from modelrunner.transfer.budget import Budget
from modelrunner.transfer.fetch import Fetcher
from modelrunner.transfer.fetched import Fetched
from modelrunner.transfer.limits import Limits
from modelrunner.transfer.sources import SourcePool

FRESH_S = 30.0
"""Seconds for which a registry's answer about names holds."""
_PATIENCE_S = 15.0
"""Seconds in which a registry has to say what a name stands for: a client waits for it."""
_RETRY_AFTER_S = 5.0
"""The longest wait that a registry may ask for and this side keeps to itself."""
_LONGEST_PATIENCE_S = 60.0
_CONNECTIONS = 4
_MOST_DOWNLOADS = 64
_MOST_ANSWERS = 10_000
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Coming:
    """A blob that is not here yet, see `Arriving`."""

    size: int
    join: "Callable[[], Download]"

    @contextmanager
    def follow(self) -> Iterator[Reader]:
        """See `Arriving.follow`."""
        with self.join().passage() as reader:
            yield reader


class CachingUpstream:
    """Registries and a cache, as `share` asks them; all methods may be called from any thread.

    Args:
        store: The user's store: what it has is not fetched.
        cache: Where the rest is kept.
        registries: How registries are reached.
        served: The registries that are asked.
        warn: Called with what the administrator should know.
        metrics: The counts.
        clock: For tests.
    """

    def __init__(
        self,
        store: Store,
        cache: BlobCache,
        registries: Registries,
        served: Sequence[str],
        warn: Callable[[str], None],
        metrics: ShareMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._cache = cache
        self._names = Names(cache)
        self._registries = registries
        self._served = frozenset(served)
        self._warn = warn
        self._metrics = metrics
        self._clock = clock
        self._budgets: dict[str, Budget] = {}
        self._downloads: dict[Digest, Download] = {}
        self._answers: dict[str, tuple[float, object]] = {}
        self._turns: dict[str, tuple[Lock, int]] = {}
        self._lock = Lock()
        self._away: set[str] = set()

    def close(self) -> None:
        """Ends all downloads; what came of them is kept."""
        with self._lock:
            downloads = list(self._downloads.values())
            for budget in self._budgets.values():
                budget.cancel()
        for download in downloads:
            download.join(5.0)
        self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def registries(self) -> Sequence[str]:
        """See `Upstream.registries`."""
        return sorted(self._served)

    def serves(self, registry: str) -> bool:
        """See `Upstream.serves`."""
        return registry in self._served

    def manifest(self, reference: Reference, local: Repository) -> Manifest | Index:
        """See `Upstream.manifest`."""
        if reference.digest is not None:
            return self._pinned(reference, reference.digest, local)
        with self._turn(reference):
            digest = self._meaning(reference, local)
            manifest = self._pinned(reference.with_digest(digest), digest, local)
            if self._names.tag(reference) != digest and self._cache.size_of(digest) is not None:
                self._names.note_manifest(reference, manifest)
        return manifest

    def blob(self, reference: Reference, digest: Digest) -> Content:
        """See `Upstream.blob`."""
        descriptor = self._names.blob(reference, digest)
        if descriptor is None:
            # of a manifest that the client has from elsewhere
            size = self._patient().blob_size(reference, digest)
            descriptor = Descriptor("application/octet-stream", digest, size)
            self._names.note_blob(reference, descriptor)
        content = self._complete(descriptor)
        if content is None:
            wanted = descriptor
            return Coming(descriptor.size, lambda: self._join(reference, wanted))
        self._metrics.add("share_blobs_total", result="hit")
        return content

    def tags(self, reference: Reference, local: Repository) -> Sequence[str]:
        """See `Upstream.tags`."""

        def ask() -> Sequence[str]:
            with closing(self._patient().source_for(reference)) as source:
                return source.tags(reference)

        own = local.tags()
        try:
            found = self._lately(f"tags {reference.name}", ask)
        except (AccessError, ManifestNotFoundError):
            if not own:
                raise
            found = ()
        except TransferError as exc:
            found = self._names.tags(reference)
            if not found and not own:
                raise
            self._say_away(reference.name, exc)
        else:
            self._say_back(reference.name)
        return sorted({*found, *own})

    def referrers(self, reference: Reference, local: Repository) -> bytes:
        """See `Upstream.referrers`."""
        digest = reference.digest
        if digest is None:
            raise ValueError("a digest is needed")

        def ask() -> bytes:
            found: dict[Digest, Referrer] = {}
            for place in self._patient().referrers_of(reference):
                with closing(place.source) as source:
                    for each in source.referrers(place.reference, digest):
                        if isinstance(each, Referrer) and each.tag is None:
                            found.setdefault(each.digest, each)
            return list_of(each.to_dict() for each in found.values())

        try:
            index = self._lately(f"referrers {reference}", ask)
        except (AccessError, ManifestNotFoundError, TransferError):
            kept = self._names.referrers(reference, digest)
            own = local.referrers(digest)
            if kept is None and not own:
                raise
            return kept or list_of(each.to_dict() for each in own)
        self._names.note_referrers(reference, digest, index)
        return index

    def repositories(self) -> Sequence[tuple[str, str]]:
        """See `Upstream.repositories`."""
        return self._names.places()

    def kept(self, digest: Digest) -> Content | Manifest | Index | None:
        """See `Upstream.kept`."""
        manifest = self._names.any_manifest(digest)
        if manifest is not None:
            return manifest
        size = self._cache.size_of(digest)
        if size is None:
            return None
        return self._complete(Descriptor("application/octet-stream", digest, size))

    def served(self, count: int, client: str) -> None:  # noqa: ARG002
        """See `Upstream.served`."""
        self._metrics.add("share_served_bytes_total", count)

    def connected(self, client: str, change: int) -> None:
        """See `Upstream.connected`."""
        self._metrics.connected(client, change)

    def metrics(self) -> str:
        """See `Upstream.metrics`."""
        gauges = {
            "share_cache_bytes": self._cache.size,
            "share_cache_limit_bytes": self._cache.limit,
        }
        with self._lock:
            # together with what is on its way, so that the sum never becomes less
            coming = sum(download.brought for download in self._downloads.values())
            gauges["share_downloads"] = len(self._downloads)
            return self._metrics.text(gauges, share_upstream_bytes_total=coming)

    # What a name stands for.

    def _meaning(self, reference: Reference, local: Repository) -> Digest:
        """What a tag stands for: as the registry says, or as it was when it could be asked."""

        def ask() -> Digest:
            with closing(self._patient().source_for(reference)) as source:
                return source.resolve(reference)

        try:
            digest = self._lately(f"tag {reference}", ask)
        except (AccessError, ManifestNotFoundError, UnsupportedArtifactError) as exc:
            if isinstance(exc, ManifestNotFoundError):
                self._names.forget_tag(reference)
            try:
                # a name that was given on this machine, and never pushed
                return local.manifest(reference.tag or "").digest
            except RefusalError:
                raise exc from None
        except TransferError as exc:
            digest = self._last_known(reference, local, exc)
            self._metrics.add("share_manifests_total", result="stale")
            self._say_away(str(reference), exc)
        else:
            self._say_back(str(reference))
        return digest

    def _last_known(self, reference: Reference, local: Repository, error: TransferError) -> Digest:
        kept = self._names.tag(reference)
        if kept is not None:
            return kept
        try:
            return local.manifest(reference.tag or "").digest
        except RefusalError:
            raise error from None

    def _pinned(self, reference: Reference, digest: Digest, local: Repository) -> Manifest | Index:
        """The manifest of a digest: of the store, kept, or fetched."""
        try:
            manifest: Manifest | Index | None = local.manifest(str(digest))
        except RefusalError:
            manifest = self._names.manifest(reference, digest)
        if manifest is not None:
            self._metrics.add("share_manifests_total", result="hit")
            for entry in manifest.blobs if isinstance(manifest, Manifest) else ():
                # those of one model go together
                self._cache.use(entry.digest)
            return manifest
        pinned = replace(reference, tag=None)
        with closing(self._patient().source_for(pinned)) as source:
            manifest = source.manifest(pinned)
        self._metrics.add("share_manifests_total", result="miss")
        self._cache.put(descriptor_of(manifest), manifest.raw)
        self._names.note_manifest(pinned, manifest)
        return manifest

    def _say_away(self, name: str, error: ModelRunnerError) -> None:
        with self._lock:
            known = name in self._away
            self._away.add(name)
        if not known:
            self._warn(f"{name}: serving what is cached, since its registry fails: {error.message}")

    def _say_back(self, name: str) -> None:
        with self._lock:
            self._away.discard(name)

    # Blobs.

    def _complete(self, descriptor: Descriptor) -> WholeFile | None:
        """A blob that is in the store or kept, and right."""
        if self._cache.has(descriptor):
            return WholeFile(self._cache.blobs.path(descriptor.digest), descriptor.size)
        if self._store.blobs.state(descriptor) == "good":
            return WholeFile(self._store.blobs.path(descriptor.digest), descriptor.size)
        return None

    def _join(self, reference: Reference, descriptor: Descriptor) -> Download:
        with self._lock:
            until, failure = self._answers.get(_question(descriptor), (0.0, None))
            if isinstance(failure, ModelRunnerError) and self._clock() < until:
                raise failure
            download = self._downloads.get(descriptor.digest)
            if download is None:
                if len(self._downloads) >= _MOST_DOWNLOADS:
                    raise TransferError("too many downloads at once", retry_after_s=_RETRY_AFTER_S)
                budget = Budget(Limits(connections=_CONNECTIONS))
                self._budgets[descriptor.digest.hex] = budget
                download = Download(
                    descriptor,
                    self._cache.blobs.path(descriptor.digest),
                    lambda on_pieces: self._fetch(reference, descriptor, budget, on_pieces),
                    self._ended,
                )
                self._downloads[descriptor.digest] = download
                download.start()
                result = "miss"
            else:
                result = "joined"
        self._metrics.add("share_blobs_total", result=result)
        return download

    def _fetch(
        self, reference: Reference, descriptor: Descriptor, budget: Budget, on_pieces: OnPieces
    ) -> Fetched:
        patience = replace(self._registries.backoff, longest_retry_after_s=_RETRY_AFTER_S)
        registries = replace(self._registries, backoff=patience)
        with (
            self._cache.arriving(descriptor),
            SourcePool(lambda: registries.source_for(reference)) as sources,
        ):
            fetcher = Fetcher(
                reference,
                sources,
                self._cache.blobs,
                ignore,
                patience,
                budget,
                on_pieces=on_pieces,
                in_order=True,
            )
            return fetcher.fetch(descriptor, str(descriptor.digest))

    def _ended(self, download: Download) -> None:
        if isinstance(download.error, TransferError):
            # a registry that fails, or asks for patience, is not asked by each client anew
            wait = min(_LONGEST_PATIENCE_S, download.error.retry_after_s or 1.0)
            self._note(_question(download.descriptor), wait, download.error)
        with self._lock:
            self._metrics.add("share_upstream_bytes_total", download.brought)
            self._downloads.pop(download.descriptor.digest, None)
            self._budgets.pop(download.descriptor.digest.hex, None)

    # Asking registries.

    def _patient(self) -> Registries:
        """The registries, for questions that a client waits for."""
        usual = self._registries.backoff
        patience = replace(
            usual,
            attempts=min(2, usual.attempts),
            longest_retry_after_s=0.0,
            deadline=time.monotonic() + _PATIENCE_S,
        )
        return replace(self._registries, backoff=patience)

    @contextmanager
    def _turn(self, reference: Reference) -> Iterator[None]:
        """The block of the one who asks for a name: others that want it wait for its answer."""
        name = str(reference)
        with self._lock:
            turn, waiting = self._turns.get(name, (Lock(), 0))
            self._turns[name] = (turn, waiting + 1)
        try:
            with turn:
                yield
        finally:
            with self._lock:
                turn, waiting = self._turns.pop(name)
                if waiting > 1:
                    self._turns[name] = (turn, waiting - 1)

    def _lately(self, question: str, ask: Callable[[], Answer]) -> Answer:
        """An answer that is some seconds old, or a new one; failures count for a moment too.

        Raises:
            ModelRunnerError: The registry says no, or nothing.
        """
        with self._lock:
            until, found = self._answers.get(question, (0.0, None))
        if self._clock() < until:
            if isinstance(found, ModelRunnerError):
                raise found
            return cast("Answer", found)
        try:
            answer = ask()
        except ModelRunnerError as exc:
            self._note(question, _RETRY_AFTER_S, exc)
            raise
        self._note(question, FRESH_S, answer)
        return answer

    def _note(self, question: str, seconds: float, answer: object) -> None:
        with self._lock:
            if len(self._answers) >= _MOST_ANSWERS:
                self._answers.clear()
            self._answers[question] = (self._clock() + seconds, answer)


def _question(descriptor: Descriptor) -> str:
    return f"blob {descriptor.digest}"
