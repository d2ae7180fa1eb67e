"""Pulls and pushes of the store that a server runs for its clients."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event as Flag

from modelrunner.errors import CanceledByUserError
from modelrunner.events import Event, Finished, Listener
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.push import Pusher
from modelrunner.operations.pull.outcome import stored
from modelrunner.operations.pull.pull import Puller
from modelrunner.operations.serve.plan import facts_of
from modelrunner.serve.library import LocalModel
from modelrunner.store.store import Store, StoredModel
from modelrunner.transfer.budget import CancelledError


@dataclass(frozen=True, slots=True)
class StorePull:
    """One pull into the store."""

    key: str
    store: Store
    reference: Reference
    puller: Puller
    listener: Listener
    offline: bool

    def run(self) -> LocalModel:
        """Pull, and return the model.

        Raises:
            ModelRunnerError: See `Puller.pull`.
            CanceledByUserError: It was called off.
        """
        found = stored(self.store, self.reference) if self.offline else None
        try:
            pulled = found or self.puller.pull(self.reference)
        except CancelledError as exc:
            raise CanceledByUserError(
                f"the pull of {self.reference.short} was canceled",
                hint="pull it again to resume: the partial download is kept",
            ) from exc
        model = self.store.resolve(str(pulled.model.digest))
        if pulled.status == "up-to-date":
            # nothing was transferred, and no event has said so
            total = model.manifest.total_bytes
            self.listener(Finished(self.reference.short, str(model.digest), total))
        return local_model(model)

    def cancel(self) -> None:
        """Call it off."""
        self.puller.budget.cancel()


@dataclass(frozen=True, slots=True)
class StorePush:
    """One push out of the store.

    Attributes:
        key: What it is known by.
        model: The model.
        reference: Where it goes.
        pusher: Makes what pushes it, with what takes its events.
        listener: Takes its events.
    """

    key: str
    model: StoredModel
    reference: Reference
    pusher: Callable[[Listener], Pusher]
    listener: Listener
    _canceled: Flag = field(default_factory=Flag)

    def run(self) -> LocalModel:
        """Push, and return the model.

        Raises:
            ModelRunnerError: See `Pusher.push`.
            CanceledByUserError: It was called off.
        """
        try:
            self.pusher(self._heed).push(self.model, self.reference)
        except CancelledError as exc:
            raise CanceledByUserError(
                f"the push of {self.reference.short} was canceled",
                hint="push it again: the blobs that the registry has are skipped",
            ) from exc
        return local_model(self.model)

    def cancel(self) -> None:
        """Call it off."""
        self._canceled.set()

    def _heed(self, event: Event) -> None:
        # it is called for each piece that is sent
        if self._canceled.is_set():
            raise CancelledError
        self.listener(event)


def local_model(model: StoredModel) -> LocalModel:
    """Return what the APIs of a server see of a stored model."""
    return LocalModel(
        digest=model.digest,
        references=model.references,
        aliases=frozenset(model.aliases),
        facts=facts_of(model, None),
    )
