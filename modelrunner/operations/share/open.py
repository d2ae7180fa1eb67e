"""From what a user asks of `share --upstream` to the registries behind the shared store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from modelrunner.errors import InvalidReferenceError, UsageError
from modelrunner.oci.reference import HUGGING_FACE, parse_registry
from modelrunner.operations.share.cache import BlobCache
from modelrunner.operations.share.metrics import ShareMetrics
from modelrunner.operations.share.upstream import CachingUpstream
from modelrunner.registry.credentials import Anonymous
from modelrunner.registry.registries import Registries
from modelrunner.store.store import Store
from modelrunner.units import SIZE_HINT, parse_size

DEFAULT_CACHE_SIZE = "200GiB"


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What was asked for.

    Attributes:
        places: By registry, the addresses that are asked instead of it; often none.
        cache_size: The most bytes to keep.
        login: Whether the registries are shown the logins of this machine.
    """

    places: Mapping[str, tuple[str, ...]]
    cache_size: int
    login: bool = False

    @classmethod
    def of(cls, upstreams: Sequence[str], cache_size: str, *, login: bool) -> "UpstreamRequest":
        """Reads what was written: `REGISTRY`, or `REGISTRY=URL` for another address.

        Raises:
            UsageError: It is not understood.
        """
        places: dict[str, tuple[str, ...]] = {}
        for text in upstreams:
            name, equals, address = text.partition("=")
            try:
                registry = parse_registry(name)
            except InvalidReferenceError as exc:
                raise UsageError(
                    f"--upstream: invalid registry {name[:100]!r}",
                    hint="write HOST, HOST:PORT or HOST=URL, such as docker.io",
                ) from exc
            if registry == HUGGING_FACE:
                raise UsageError(
                    "--upstream: the Hugging Face Hub is not an OCI registry",
                    hint="pull models of it by hand: what is in the local store is shared",
                )
            if equals and not address:
                raise UsageError(
                    f"--upstream: missing URL after {text[:100]!r}",
                    hint="write REGISTRY=URL, or the registry alone",
                )
            places[registry] = (*places.get(registry, ()), *([address] if equals else []))
        try:
            size = parse_size(cache_size)
        except ValueError as exc:
            raise UsageError(
                f"--cache-size: invalid size {cache_size[:100]!r}", hint=SIZE_HINT
            ) from exc
        return cls(places, size, login)

    def registries(self, usual: Registries) -> Registries:
        """The registries as they are asked: without mirrors that are for this machine's own pulls.

        One of those may be this very share.

        Raises:
            ConfigError: An address is invalid.
        """
        found = replace(
            usual,
            mirrors=self.places,
            instead=True,
            credentials=usual.credentials if self.login else Anonymous(),
            lan_stores=None,
            also=(),
            # what is known of other logins there is not used
            known={},
        )
        for registry in self.places:
            found.mirrors_of(registry)
        return found


@contextmanager
def upstream_of(
    request: UpstreamRequest,
    store: Store,
    usual: Registries,
    folder: Path,
    warn: Callable[[str], None],
) -> Iterator[CachingUpstream]:
    """The block in which registries stand behind a shared store.

    Args:
        request: Which ones, and how.
        store: The user's store.
        usual: How this machine reaches registries.
        folder: Where fetched content is kept.
        warn: Called with what the administrator should know.

    Raises:
        ConfigError: An address is invalid, or another process has the cache.
        StoreAccessError, DiskFullError: The cache cannot be written.
    """
    metrics = ShareMetrics()

    def evicted(size: int) -> None:
        metrics.add("share_evictions_total")
        metrics.add("share_evicted_bytes_total", size)

    registries = request.registries(usual)
    cache = BlobCache(folder, request.cache_size, evicted)
    served = tuple(request.places)
    with CachingUpstream(store, cache, registries, served, warn, metrics) as upstream:
        yield upstream
