"""Which place a reference's model comes from, and goes to."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

from modelrunner.errors import ModelNotFoundError, UnsupportedArtifactError
from modelrunner.frozen import field, frozen, replace
from modelrunner.oci.digest import Digest
from modelrunner.oci.hub_address import reference_at
from modelrunner.oci.reference import ANY_REPOSITORY, HUGGING_FACE, Reference
from modelrunner.registry.credentials import Credential, Credentials, OneCredential
from modelrunner.registry.http.endpoint import Endpoint, Guess
from modelrunner.registry.http.retry import NO_RETRY, Backoff
from modelrunner.registry.http.tokens import Headers
from modelrunner.registry.oci.sink import OciSink
from modelrunner.registry.settings import HubAccess, RegistrySettings
from modelrunner.registry.source import Source

# late imports: most models are at one registry, and nobody else is asked
if TYPE_CHECKING:
    from modelrunner.oci.digest import Digest
    from modelrunner.registry.fallback import FallbackSource
    from modelrunner.registry.huggingface.small_files import KnownFiles
    from modelrunner.registry.huggingface.source import Listings
    from modelrunner.registry.lan import LanStore
    from modelrunner.registry.oci.catalog import CatalogSource
    from modelrunner.registry.oci.referrers import Allowance, ReferrerPlace


def _none_known(_reference: Reference, _sizes: Collection[int]) -> "Mapping[str, Digest]":
    return {}


class LanStores:
    """The shared stores on the local network, looked for once."""

    def __init__(self, find: "Callable[[], Sequence[LanStore]]") -> None:
        self._find = find
        self._lock = Lock()

    @property
    def found(self) -> "Sequence[LanStore]":
        """Whoever answers; several connections wait for one look."""
        with self._lock:
            return self._once

    @cached_property
    def _once(self) -> "Sequence[LanStore]":
        return self._find()


@frozen
class Registries:
    """Every place that models may come from: registries, and mirrors of them.

    What is known by its digest may come from `lan_stores`, shared stores on the local network that
    are looked for where content is needed and asked first, and from `also`: repositories and shared
    stores that are asked where the others do not deliver. With `instead`, a registry that has
    mirrors is not asked itself.
    """

    credentials: Credentials
    mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    ca_file: str | None = None
    backoff: Backoff = field(default_factory=Backoff)
    hub: HubAccess = field(default_factory=HubAccess)
    known: dict[str, Headers] = field(default_factory=dict, repr=False)
    guesses: dict[str, Guess] = field(default_factory=dict, repr=False)
    listings: "Listings" = field(default_factory=dict, repr=False)
    known_files: "KnownFiles" = field(default=_none_known, repr=False)
    lan_stores: LanStores | None = None
    also: Sequence[str] = ()
    instead: bool = False

    def with_token(self, reference: Reference, token: str) -> "Registries":
        """Return these registries, of which that of a name is shown a token instead of a login.

        What is known of other logins there is not used, and the token is used for nothing else.
        """
        account = self.endpoint_of(reference.registry).account
        only = OneCredential(account, Credential(registry_token=token))
        return replace(self, credentials=only, known={})

    def source_for(self, reference: Reference) -> Source:
        """Return where to pull from: mirrors, the registry, and others with the same content.

        Raises:
            ConfigError: An address of a mirror, of the Hugging Face Hub or of a store is invalid.
            InvalidReferenceError: What is to be asked too is not a reference.
            ModelNotFoundError: It is a name under `local/`.
        """
        main = self._main(reference)
        if self.lan_stores is None and not self.also:
            return main
        from modelrunner.registry.fallback import ManySources

        def near() -> "list[FallbackSource]":
            found = () if self.lan_stores is None else self.lan_stores.found
            return [self._neighbour(store, reference) for store in found]

        return ManySources(main, near, [self._other(text) for text in self.also])

    def _neighbour(self, store: "LanStore", reference: Reference) -> "FallbackSource":
        from modelrunner.registry.fallback import FallbackSource

        endpoint, there = _neighbour(store, reference)
        patience = replace(self.backoff, attempts=1)
        return FallbackSource(self._open(endpoint, patience), there)

    def _other(self, text: str) -> "FallbackSource":
        from modelrunner.registry.fallback import FallbackSource

        if text.startswith(("http://", "https://")) and reference_at(text) is None:
            endpoint = Endpoint.of_mirror(
                text, text, registries=self.registries, ca_file=self.ca_file
            )
            return FallbackSource(
                self._open(endpoint), Reference(endpoint.authority, ANY_REPOSITORY, None)
            )
        reference = Reference.parse(text)
        return FallbackSource(self._main(reference), reference)

    def _main(self, reference: Reference) -> Source:
        _refuse_local(reference)
        if reference.registry == HUGGING_FACE:
            from modelrunner.registry.huggingface.api import HubApi
            from modelrunner.registry.huggingface.source import HuggingFaceHub

            api = HubApi(self.hub, self.backoff, self.ca_file)
            hub = HuggingFaceHub(api, self.listings, self.known_files)
            return self._mirrored(self.mirrors_of(HUGGING_FACE), hub)
        registry = self.sink_for(reference)
        if not self.mirrors_of(reference.registry):
            return registry
        return self._mirrored(self._endpoints_of(reference.registry))

    def _mirrored(self, endpoints: Sequence[Endpoint], *others: Source) -> Source:
        """Registries, and what is asked after them; the one that there is, where it is alone."""
        if not endpoints:
            return others[0]
        from modelrunner.registry.fallback import MirroredSource

        # where there are several places to ask, none is worth a long wait
        patience = replace(self.backoff, attempts=min(2, self.backoff.attempts))
        return MirroredSource(
            [*(self._open(endpoint, patience) for endpoint in endpoints), *others]
        )

    def sink_for(self, reference: Reference) -> OciSink:
        """The registry itself: what a push goes to.

        Raises:
            UnsupportedArtifactError: The place is known and cannot be spoken to.
            ModelNotFoundError: It is a name under `local/`.
        """
        _refuse_local(reference)
        if reference.registry == HUGGING_FACE:
            raise UnsupportedArtifactError(
                f"{reference.short}: the Hugging Face Hub is not an OCI registry",
                hint=f"upload a file with `hf upload {reference.original_repository} FILE.gguf`",
            )
        return self._open(self.endpoint_of(reference.registry))

    def blob_size(self, reference: Reference, digest: Digest) -> int:
        """The bytes of a blob in an OCI registry, or a mirror of it, without downloading it.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: Nobody has it.
        """
        from modelrunner.registry.fallback import FallbackOrder, worst

        endpoints = self._endpoints_of(reference.registry)
        order = FallbackOrder([self._open(endpoint) for endpoint in endpoints])
        with closing(order):
            return order.first(lambda place: place.blob_size(reference, digest), worst)

    def catalog_of(self, registry: str) -> "CatalogSource":
        """A registry, to be asked for its repositories."""
        from modelrunner.registry.oci.catalog import CatalogSource

        endpoint = self.endpoint_of(registry)
        return CatalogSource(
            endpoint,
            self.credentials,
            backoff=self.backoff,
            known=self.known.setdefault(endpoint.base, {}),
        )

    def referrers_of(
        self, reference: Reference, allowance: "Allowance | None" = None
    ) -> "Sequence[ReferrerPlace]":
        """Who may keep signatures of a model: mirrors, its registry, and who else has content.

        A signature proves itself, wherever it is kept.

        Args:
            reference: The model.
            allowance: How much may be spent; None for the usual limits.

        Raises:
            UnsupportedArtifactError: The place keeps no such thing.
            ModelNotFoundError: It is a name under `local/`.
        """
        _refuse_local(reference)
        if reference.registry == HUGGING_FACE:
            raise UnsupportedArtifactError(
                f"{reference.short}: signatures are not supported on the Hugging Face Hub"
            )
        from modelrunner.registry.oci.referrers import Allowance, within

        endpoints = self._endpoints_of(reference.registry)
        others = [place for text in self.also if (place := self._also_referrers(text))]
        near = () if self.lan_stores is None else self.lan_stores.found
        allowance = allowance or Allowance()
        backoff, once = within(self.backoff, allowance), within(NO_RETRY, allowance)
        if len(endpoints) > 1 or others or near:
            # as with content: where there are several places to ask, none is worth a long wait
            backoff = replace(backoff, attempts=min(2, backoff.attempts))
        places = [
            *((endpoint, reference, backoff) for endpoint in endpoints),
            *((*place, once) for place in others),
            *((*_neighbour(store, reference), once) for store in near),
        ]
        return [self._referrers(*place, allowance) for place in places]

    def _also_referrers(self, text: str) -> tuple[Endpoint, Reference] | None:
        if text.startswith(("http://", "https://")) and reference_at(text) is None:
            endpoint = Endpoint.of_mirror(
                text, text, registries=self.registries, ca_file=self.ca_file
            )
            anywhere = Reference(endpoint.authority, ANY_REPOSITORY, None)
            return endpoint, anywhere
        reference = Reference.parse(text)
        if reference.registry == HUGGING_FACE or reference.is_local:
            return None
        return self.endpoint_of(reference.registry), reference

    def _referrers(
        self, endpoint: Endpoint, reference: Reference, backoff: Backoff, allowance: "Allowance"
    ) -> "ReferrerPlace":
        from modelrunner.registry.oci.referrers import ReferrerPlace, ReferrerSource

        source = ReferrerSource(
            endpoint,
            self.credentials,
            backoff=backoff,
            known=self.known.setdefault(endpoint.base, {}),
            allowance=allowance,
        )
        return ReferrerPlace(source, reference)

    def endpoint_of(self, registry: str) -> Endpoint:
        """A registry's own address, with what is configured for it."""
        said = self.registries.get(registry, RegistrySettings())
        return Endpoint.of_registry(
            registry,
            insecure=said.insecure,
            realms=said.realms,
            ca_file=said.ca_file or self.ca_file,
            client=said.client,
            guess=self.guesses.setdefault(registry, Guess()),
        )

    def _endpoints_of(self, registry: str) -> tuple[Endpoint, ...]:
        """Mirrors and the registry, in the order in which they are asked."""
        mirrors = self.mirrors_of(registry)
        return mirrors if mirrors and self.instead else (*mirrors, self.endpoint_of(registry))

    def mirrors_of(self, registry: str) -> tuple[Endpoint, ...]:
        """The mirrors that are asked before a registry.

        Raises:
            ConfigError: A mirror's address is invalid.
        """
        return tuple(
            Endpoint.of_mirror(
                registry,
                address,
                registries=self.registries,
                ca_file=self.ca_file,
                namespace=registry,
            )
            for address in self.mirrors.get(registry, ())
        )

    def _open(self, endpoint: Endpoint, backoff: Backoff | None = None) -> OciSink:
        return OciSink(
            endpoint,
            self.credentials,
            backoff=backoff or self.backoff,
            known=self.known.setdefault(endpoint.base, {}),
        )


def _neighbour(store: "LanStore", reference: Reference) -> tuple[Endpoint, Reference]:
    """A shared store on the local network: what comes is verified, and nothing secret is sent.

    One that fetches from the model's registry is told which model it is.
    """
    endpoint = Endpoint(f"http://{store.authority}", "http", store.authority)
    named = f"{reference.registry}/{reference.repository}"
    there = named if reference.registry in store.fetches else ANY_REPOSITORY
    return endpoint, Reference(store.authority, there, None)


def _refuse_local(reference: Reference) -> None:
    """A stranger may own that namespace at a registry: what it has there is another model."""
    if reference.is_local:
        raise ModelNotFoundError(
            f"{reference.short} is a local name: no registry has it",
            hint="`modelrunner list` shows the models of the local store",
        )
