"""Many small blobs: each comes over one connection, several of them at once.

What the engine does for a large blob costs more than a small one: connections that grow in number,
pieces, a journal, a hash on another core. Here a few threads keep a connection each and bring one
blob after the other (`carrier`), and the names of all are flushed at once.

Nothing waits here, and nothing is tried twice that has not delivered. What does not come, and what
another process brings, is left to the caller, and after a failure so is what was not begun.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from queue import Empty

from modelrunner.events import Listener, Retrying
from modelrunner.frozen import field, frozen
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Source
from modelrunner.store.blobs import BlobStore
from modelrunner.transfer.budget import Budget
from modelrunner.transfer.carrier import Carrier, Failure, Load
from modelrunner.transfer.fetched import Fetched
from modelrunner.transfer.limits import MOST_CONNECTIONS

_TICK_S = 0.05
_PARTING_S = 1.0


@frozen
class Brought:
    """What became of blobs.

    Attributes:
        fetched: What it took to bring those that are here.
        failed: Those that did not come.
        taken: Those that another process brings.
        rest: Those that were not begun.
    """

    fetched: list[Fetched] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    taken: list[Descriptor] = field(default_factory=list)
    rest: list[Descriptor] = field(default_factory=list)


@frozen
class SmallBlobs:
    """Brings small blobs of one model into one store.

    `failures` is how many attempts before this one have ended with a failure: each halves the
    connections, since some servers refuse that many.
    """

    reference: Reference
    open_source: Callable[[], Source]
    blobs: BlobStore
    listener: Listener
    backoff: Backoff
    budget: Budget
    failures: int = 0

    def bring(
        self,
        entries: Iterable[Descriptor],
        titles: Mapping[Digest, str],
        on_here: Callable[[Descriptor], None],
    ) -> Brought:
        """Brings as many as come without trouble.

        The calling thread watches: it starts connections, calls the listener, takes a Ctrl-C.

        Args:
            entries: The blobs.
            titles: What they are called.
            on_here: Called with each blob that is here; raises where it will not do.

        Raises:
            DeadlineError: The time is over.
            CancelledError: The budget was called off; what came is kept.
            StoreAccessError, DiskFullError: What came cannot be kept.
        """
        load = Load(
            self.reference,
            titles,
            self.blobs,
            self.open_source,
            self.budget.throttle,
            deque(entries),
            self.blobs.new_files(),
        )
        carriers: list[Carrier] = []
        fetched: list[Fetched] = []
        try:
            self._watch(load, carriers, fetched, on_here)
        finally:
            self._part(load, carriers)
            self.budget.leave(load)
        self.blobs.settle()
        return Brought(fetched, load.failed, load.taken, list(load.pending))

    def _watch(
        self,
        load: Load,
        carriers: list[Carrier],
        fetched: list[Fetched],
        on_here: Callable[[Descriptor], None],
    ) -> None:
        most = min(self.budget.limits.connections or MOST_CONNECTIONS, MOST_CONNECTIONS)
        most = max(1, min(most, -(-len(load.pending) // 2)) >> self.failures)
        reason: str | None = None
        while True:
            load.over.clear()
            self.budget.check()
            if self.backoff.deadline is not None and self.backoff.deadline <= time.monotonic():
                raise self.backoff.timed_out(reason, kept=bool(fetched))
            working = load.working
            reason = self._report(load, fetched, on_here) or reason
            for carrier in carriers:
                if carrier.error is not None:
                    raise carrier.error
            if not working and not load.has_more:
                return
            self._staff(load, carriers, min(most, working + len(load.pending)), working)
            load.over.wait(_TICK_S)

    def _report(
        self, load: Load, fetched: list[Fetched], on_here: Callable[[Descriptor], None]
    ) -> str | None:
        """Passes on what the connections have to say; why one of them was cut off, the last one."""
        reason = None
        while True:
            try:
                news = load.news.get_nowait()
            except Empty:
                return reason
            for event in news.events:
                if isinstance(event, Retrying):
                    reason = event.reason
                self.listener(event)
            if news.fetched is not None:
                fetched.append(news.fetched)
                on_here(news.entry)

    def _staff(self, load: Load, carriers: list[Carrier], useful: int, working: int) -> None:
        """Starts connections, as many as are useful and may be had."""
        wanted = useful if load.has_more else working
        for _ in range(working, self.budget.grant(load, wanted, working)):
            carrier = Carrier(load, len(carriers))
            carriers.append(carrier)
            load.begin()
            carrier.start()

    def _part(self, load: Load, carriers: list[Carrier]) -> None:
        """Ends all connections; one that is stuck is left behind, and writes nothing more."""
        load.stop()
        for carrier in carriers:
            carrier.abort()
        deadline = time.monotonic() + _PARTING_S
        for carrier in carriers:
            # a signal may come while one is started: it has nothing to end yet
            if carrier.is_alive():
                carrier.join(max(0.0, deadline - time.monotonic()))
