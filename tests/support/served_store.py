"""A real store behind a server whose runtimes are scripted: pulls and removals are real.

serving = ServedStore(store, folder)
serving.run(lambda changes: changes.tag("one", "two"))
with gateway(Scripted(), library=serving.library()) as running: ...
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from modelrunner.events import Listener
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.capabilities import capabilities_of_one
from modelrunner.operations.package.push import Pusher
from modelrunner.operations.pull.pull import Puller
from modelrunner.operations.serve.library import StoreLibrary
from modelrunner.operations.serve.plan import ServePlan, facts_of
from modelrunner.serve.changes import StoreChanges
from modelrunner.serve.models import Served
from modelrunner.serve.pool import ModelPool
from modelrunner.store.store import Store, StoredModel
from tests.support.pulling import Pulling
from tests.support.serving import Scripted, model

Answer = TypeVar("Answer")


def planned(
    stored: StoredModel, name: str, changed: Mapping[str, str] = MappingProxyType({})
) -> ServePlan:
    usual = model(name)
    # bounded: a test's own
    context = int(changed.get("context", usual.spec.context))
    served = replace(
        usual,
        spec=replace(usual.spec, context=context),
        digest=stored.digest,
        references=stored.references,
        aliases=frozenset(stored.aliases),
        facts=facts_of(stored, capabilities_of_one(stored)),
        stored=True,
    )
    return ServePlan(served, f"{name}: fits", fits=True)


@dataclass
class ServedStore:
    """A store, and what is served of it; `run` gives each test a loop of its own."""

    store: Store
    logs: Path
    runtime: Scripted = field(default_factory=Scripted)
    plan: Callable[[StoredModel, str, Mapping[str, str]], ServePlan] = planned
    offline: bool = False
    everything: bool = False
    config: Path | None = None
    puller_with: Callable[[Puller], Puller] = lambda puller: puller

    def library(self) -> StoreLibrary:
        pulling = Pulling(self.store, self.config)

        def puller(listener: Listener) -> Puller:
            source_for = self.refused if self.offline else pulling.places.source_for
            return self.puller_with(
                Puller(self.store, source_for, listener, lambda: pulling.backoff)
            )

        def pusher(reference: Reference, token: str, listener: Listener) -> Pusher:
            if self.offline:
                self.refused(reference)
            places = pulling.places.with_token(reference, token) if token else pulling.places
            return Pusher(self.store, places.sink_for(reference), listener, pulling.backoff)

        return StoreLibrary(self.store, puller, pusher, self.plan, offline=self.offline)

    def refused(self, reference: Reference) -> None:
        raise self.store.unreachable(reference)

    def served_from_the_start(self) -> list[Served]:
        return [planned(each, each.references[0].short).served for each in self.store.models()]

    def run(self, work: Callable[[StoreChanges], Awaitable[Answer]]) -> Answer:
        async def whole() -> Answer:
            pool = ModelPool(self.runtime, self.served_from_the_start(), self.logs, None, None)
            changes = StoreChanges(self.library(), pool, self.everything)
            try:
                return await work(changes)
            finally:
                await changes.close()
                await pool.close()

        return asyncio.run(whole())
