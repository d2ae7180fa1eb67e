"""Pulls and pushes as the operations do them, without a command line and without patience.

pulling = Pulling(store)
pulled = pulling.pull(registry.reference("ai/smollm2:135M"))
assert pulling.heard(Retrying) == []
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from modelrunner.events import Event
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import ReferrerChoice
from modelrunner.operations.package.push import Pushed, Pusher
from modelrunner.operations.pull.keeping import Keeping
from modelrunner.operations.pull.outcome import Pulled
from modelrunner.operations.pull.pull import Puller
from modelrunner.registry.credentials import DockerCredentials
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.oci.referrers import Allowance
from modelrunner.registry.registries import Registries
from modelrunner.registry.settings import RegistrySettings
from modelrunner.store.store import Store, StoredModel
from modelrunner.transfer.limits import Limits

QUICK = Backoff(attempts=3, base_s=0.002, cap_s=0.004, longest_retry_after_s=0.5)
Kind = TypeVar("Kind")


@dataclass
class Pulling:
    """One store, and how registries are reached from it."""

    store: Store
    config: Path | None = None
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    ca_file: str | None = None
    backoff: Backoff = QUICK
    events: list[Event] = field(default_factory=list)

    @property
    def places(self) -> Registries:
        return Registries(
            DockerCredentials(self.config),
            self.mirrors,
            self.registries,
            self.ca_file,
            self.backoff,
        )

    def pull(
        self,
        text: str,
        wanted: ReferrerChoice = "none",
        *,
        insists: bool = False,
        allowance: Allowance | None = None,
    ) -> Pulled:
        """Pulls a model, and what refers to it."""
        places = self.places
        keeping = Keeping(places.referrers_of, wanted, insists)
        if allowance is not None:
            keeping = replace(keeping, allowance=lambda _: allowance)
        puller = Puller(
            self.store,
            places.source_for,
            self.events.append,
            lambda: self.backoff,
            keeping=None if wanted == "none" else keeping,
        )
        return puller.pull(Reference.parse(text))

    def push(
        self,
        model: StoredModel,
        text: str,
        *,
        connections: int | None = None,
        rate: int | None = None,
    ) -> Pushed:
        reference = Reference.parse(text)
        return self.pusher(reference, Limits(connections, rate)).push(model, reference)

    def pusher(self, reference: Reference, limits: Limits | None = None) -> Pusher:
        """What pushes to the registry of a name."""
        sink = self.places.sink_for(reference)
        return Pusher(self.store, sink, self.events.append, self.backoff, limits or Limits())

    def heard(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def leftovers(self) -> list[str]:
        """Names in the folder where blobs arrive."""
        return sorted(path.name for path in self.store.layout.ingest.glob("*.*"))


def docker_config(folder: Path, auths: Mapping[str, tuple[str, str]], **more: object) -> Path:
    """A `config.json` of Docker's with these logins, by registry."""
    entries = {
        registry: {"auth": b64encode(f"{user}:{password}".encode()).decode()}
        for registry, (user, password) in auths.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": entries, **more}))
    return path
