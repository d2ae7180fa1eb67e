"""Which place a reference's model comes from, and goes to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from modelrunner.errors import UnsupportedArtifactError
from modelrunner.oci.reference import HUGGING_FACE, Reference
from modelrunner.registry.credentials import Credentials
from modelrunner.registry.endpoint import Endpoint
from modelrunner.registry.hub_api import HubAccess, HubApi
from modelrunner.registry.huggingface import HuggingFaceHub, Listings
from modelrunner.registry.mirrors import MirroredSource
from modelrunner.registry.oci_sink import OciSink
from modelrunner.registry.retry import Backoff
from modelrunner.registry.settings import RegistrySettings
from modelrunner.registry.source import Source
from modelrunner.registry.tokens import Headers


@dataclass(frozen=True, slots=True)
class Places:
    """Every place that models may come from: registries, and mirrors of them."""

    credentials: Credentials
    mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    ca_file: str | None = None
    backoff: Backoff = field(default_factory=Backoff)
    hub: HubAccess = field(default_factory=HubAccess)
    known: dict[str, Headers] = field(default_factory=dict, repr=False)
    listings: Listings = field(default_factory=dict, repr=False)

    def until(self, deadline: float) -> Self:
        """The same places, given up on at a time of the monotonic clock."""
        return replace(self, backoff=replace(self.backoff, deadline=deadline))

    def source_for(self, reference: Reference) -> Source:
        """Where to pull from: the registry, behind its mirrors.

        Raises:
            ConfigError: A mirror's address is none, or that of the Hugging Face Hub.
        """
        if reference.registry == HUGGING_FACE:
            return HuggingFaceHub(HubApi(self.hub, self.backoff, self.ca_file), self.listings)
        registry = self.sink_for(reference)
        mirrors = self.mirrors_of(reference.registry)
        if not mirrors:
            return registry
        # where there are several places to ask, none is worth a long wait
        patience = replace(self.backoff, attempts=min(2, self.backoff.attempts))
        return MirroredSource(
            [self._open(endpoint, patience) for endpoint in (*mirrors, registry.endpoint)]
        )

    def sink_for(self, reference: Reference) -> OciSink:
        """The registry itself: what a push goes to.

        Raises:
            UnsupportedArtifactError: The place is known and cannot be spoken to.
        """
        if reference.registry == HUGGING_FACE:
            raise UnsupportedArtifactError(
                f"{reference.short}: the Hugging Face Hub is no OCI registry",
                hint=f"`hf upload {reference.original_repository} FILE.gguf` sends a file there",
            )
        return self._open(self.endpoint_of(reference.registry))

    def endpoint_of(self, registry: str) -> Endpoint:
        """A registry's own address, with what is configured for it."""
        said = self.registries.get(registry, RegistrySettings())
        return Endpoint.of_registry(
            registry,
            insecure=said.insecure,
            realms=said.realms,
            ca_file=said.ca_file or self.ca_file,
            client=said.client,
        )

    def mirrors_of(self, registry: str) -> tuple[Endpoint, ...]:
        """The mirrors that are asked before a registry.

        Raises:
            ConfigError: A mirror's address is none.
        """
        return tuple(
            Endpoint.of_mirror(registry, address, registries=self.registries, ca_file=self.ca_file)
            for address in self.mirrors.get(registry, ())
        )

    def _open(self, endpoint: Endpoint, backoff: Backoff | None = None) -> OciSink:
        return OciSink(
            endpoint,
            self.credentials,
            backoff=backoff or self.backoff,
            known=self.known.setdefault(endpoint.base, {}),
        )
