"""Changes of the store while it is served: the pool follows what comes, is named and removed.

The work is done in threads. Two requests for one pull or push share it; it is called off when the
last of them goes away.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from modelrunner.errors import ModelRunnerError, UnsupportedArtifactError
from modelrunner.events import Listener
from modelrunner.oci.digest import Digest
from modelrunner.oci.tar import Readable
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.library import (
    Description,
    Export,
    Library,
    LocalModel,
    Recipe,
    RemoteModel,
    Removal,
    TransferJob,
)
from modelrunner.serve.models import Served
from modelrunner.serve.pool import ModelPool, Slot
from modelrunner.serve.transfers import Transfer, in_thread

_TRANSFERS = 4
"""Pulls and pushes that run at a time, and archives that are loaded; others wait."""

_GOODBYE_S = 5.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class StoreChanges:
    """Reads and changes the store, and keeps the pool in step with it.

    Attributes:
        library: The store.
        pool: What is served.
        everything: Whether all models of the store are served, those of other programs' making too.
    """

    library: Library
    pool: ModelPool
    everything: bool = False
    _transfers: dict[str, Transfer] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_TRANSFERS))
    _loads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_TRANSFERS))
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    _loading: "set[asyncio.Future[Sequence[LocalModel]]]" = field(default_factory=set)
    _seen: object = None

    async def refresh(self) -> None:
        """Follow what other programs changed in the store, where everything in it is served."""
        if self.everything and self.library.state() != self._seen:
            await self._follow((), changed_only=True)

    async def models(self) -> Sequence[LocalModel]:
        """All models of the store, served or not."""
        return await asyncio.to_thread(self.library.models)

    async def disk_usage(self) -> Mapping[str, Any]:
        """What the store takes, as `df --json` prints it."""
        return await asyncio.to_thread(self.library.disk_usage)

    @asynccontextmanager
    async def pull(self, text: str) -> AsyncIterator[Transfer]:
        """The block in which somebody watches a pull; without watchers it is called off.

        Raises:
            InvalidReferenceError: The text is not the name of a model.
            ModelNotFoundError: A name under `local/` is not in the store.
        """
        async with self._watched(partial(self.library.pulling, text), self._serve) as pull:
            yield pull

    @asynccontextmanager
    async def push(self, text: str, token: str) -> AsyncIterator[Transfer]:
        """The block in which somebody watches a push; without watchers it is called off.

        Args:
            text: The name of the model, which says where it goes.
            token: What the registry wants to see, instead of the login of the server; empty for
                that login.

        Raises:
            ModelRunnerError: See `Library.pushing`.
        """
        async with self._watched(partial(self.library.pushing, text, token), _as_before) as push:
            yield push

    async def load(self, archive: Readable) -> Sequence[LocalModel]:
        """Take the models of an archive, or none; requests may ask for those with names at once.

        Args:
            archive: Read in a thread.

        Raises:
            ModelRunnerError: See `Library.load`.
        """
        async with self._loads:
            loading = in_thread(partial(self.library.load, archive), "load")
            self._loading.add(loading)
            loading.add_done_callback(self._loading.discard)
            models = await asyncio.shield(loading)
        await self._follow([model.digest for model in models])
        return models

    async def export(self, text: str) -> Export:
        """A model as an archive.

        Raises:
            ModelRunnerError: See `Library.export`.
        """
        return await asyncio.to_thread(self.library.export, text)

    async def remote(self, text: str) -> RemoteModel:
        """What a registry says of a model.

        Raises:
            ModelRunnerError: See `Library.remote`.
        """
        return await asyncio.to_thread(self.library.remote, text)

    async def tag(self, source: str, target: str) -> LocalModel:
        """Give a model one more name; requests may use it at once.

        Raises:
            ModelRunnerError: See `Library.tag`.
        """
        return await self._changing(partial(self.library.tag, source, target))

    async def describe(self, digest: Digest) -> Description:
        """Everything that is known of a model.

        Raises:
            ModelRunnerError: See `Library.describe`.
        """
        return await asyncio.to_thread(self.library.describe, digest)

    async def create(self, source: str, target: str, recipe: Recipe) -> LocalModel:
        """Make a model of one that is stored; requests may ask for it at once.

        Raises:
            ModelRunnerError: See `Library.create`.
        """
        return await self._changing(partial(self.library.create, source, target, recipe))

    async def configure(self, slot: Slot, changed: Mapping[str, str]) -> None:
        """Start a model with other settings from now on; one that is in memory is unloaded.

        Raises:
            RefusalError: It is answering: 409.
            ModelRunnerError: See `Library.reconfigured`.
        """
        # in turn: what follows the store meanwhile would put the old settings back
        async with self._turn:
            model = await asyncio.to_thread(self.library.reconfigured, slot.model, changed)
            if slot.users:
                raise _in_use(slot)
            slot.model, slot.failure = model, None
        # a load that has begun is one with the old settings
        if slot.loading is not None:
            await asyncio.wait({slot.loading})
        await self.pool.unload(slot, "configured")

    async def remove(self, text: str, *, force: bool = False) -> Removal:
        """Remove a name, and with the last one the model, which is served no more.

        Args:
            text: The name or ID.
            force: Whether to remove all names of an ID, and a model that is answering.

        Raises:
            RefusalError: It is answering: 409.
            ModelRunnerError: See `Library.remove`.
        """
        plan = await asyncio.to_thread(self.library.removal, text, force=force)
        slot = self._slot(plan.digest) if plan.last else None
        if slot is not None and slot.users and not force:
            raise _in_use(slot)
        removed = await asyncio.to_thread(self.library.remove, text, force=force)
        await self._follow(())
        if slot is not None and removed.last:
            await self.pool.leave(slot)
        return removed

    async def close(self) -> None:
        """Call all pulls and pushes off."""
        for transfer in self._transfers.values():
            transfer.job.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # a load whose client is gone takes away what came, and that only takes a moment
        if self._loading:
            await asyncio.wait(self._loading, timeout=_GOODBYE_S)

    async def _changing(self, change: Callable[[], LocalModel]) -> LocalModel:
        model = await asyncio.to_thread(change)
        await self._follow([model.digest])
        return model

    @asynccontextmanager
    async def _watched(
        self,
        prepare: Callable[[Listener], TransferJob],
        after: Callable[[LocalModel], Awaitable[None]],
    ) -> AsyncIterator[Transfer]:
        transfer = await Transfer.prepared(prepare)
        known = self._transfers.get(transfer.key)
        if known is None:
            self._transfers[transfer.key] = transfer
            task = asyncio.create_task(self._run(transfer, after))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            transfer = known
        transfer.watchers += 1
        try:
            yield transfer
        finally:
            transfer.watchers -= 1
            if not transfer.watchers:
                self._forget(transfer)
                transfer.job.cancel()

    async def _run(
        self, transfer: Transfer, after: Callable[[LocalModel], Awaitable[None]]
    ) -> None:
        """Do the work in a thread, and what follows of it; then let the watchers go."""
        try:
            async with self._slots:
                if not transfer.watchers:
                    return
                transfer.start()
                await transfer.returned.wait()
            if transfer.model is not None:
                await after(transfer.model)
        except ModelRunnerError as exc:
            transfer.error = exc
        finally:
            self._forget(transfer)
            transfer.finish()

    async def _serve(self, model: LocalModel) -> None:
        await self._follow([model.digest])

    def _forget(self, transfer: Transfer) -> None:
        if self._transfers.get(transfer.key) is transfer:
            del self._transfers[transfer.key]

    def _slot(self, digest: Digest) -> Slot | None:
        return next((s for s in self.pool.slots.values() if s.model.digest == digest), None)

    async def _follow(self, new: Sequence[Digest], *, changed_only: bool = False) -> None:
        """Serve what the store has: what was served, what is new, or everything."""
        async with self._turn:
            state = self.library.state()
            if changed_only and state == self._seen:
                return
            before = self.pool.served
            self.pool.stopped.difference_update(new)
            wanted = await asyncio.to_thread(self._planned, before, new)
            # what was stopped meanwhile stays so
            gone = {model.digest for model in before} - {m.digest for m in self.pool.served}
            self.pool.update([model for model in wanted if model.digest not in gone])
            self._seen = state

    def _planned(self, served: Sequence[Served], new: Sequence[Digest]) -> list[Served]:
        """In a thread: everything to serve, each model with the names that it has now."""
        stored = {model.digest: model for model in self.library.models()}
        found = []
        for model in served:
            now = stored.get(model.digest)
            if now is not None and now.references:
                found.append(model.renamed(now.references, now.aliases))
            elif not model.stored:
                found.append(model)
        known = {model.digest for model in found} | self.pool.stopped
        names = {str(name) for model in stored.values() for name in model.references}
        before = {name: why for name, why in self.pool.unservable.items() if name in names}
        failed: dict[str, ModelRunnerError] = {}
        for digest in stored if self.everything else new:
            if digest in known or digest not in stored or not stored[digest].references:
                continue
            try:
                found.append(self.library.served(digest))
            except ModelRunnerError as exc:
                first = stored[digest].references[0]
                if str(first) not in before:
                    # a model of another format is nothing that is wrong
                    is_other = isinstance(exc, UnsupportedArtifactError)
                    level = logging.INFO if is_other else logging.WARNING
                    _log.log(level, "not served: %s: %s", first.short, exc.message)
                failed |= {str(each): exc for each in stored[digest].references}
        self.pool.unservable = before | failed
        return found


async def _as_before(_model: LocalModel) -> None:
    """What was pushed is served where it was served before."""


def _in_use(slot: Slot) -> RefusalError:
    return RefusalError(
        409,
        f"{slot.model.name} is in use: try again when its answers are complete",
        "model_in_use",
    )
