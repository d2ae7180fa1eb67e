"""Changes of the store while it is served: the pool follows what is pulled, named and removed.

The work is done in threads. Two requests for one pull share it; it is called off when the last of
them goes away. What a thread reports of a pull is passed on at most ten times a second.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from modelrunner.errors import CanceledByUserError, ModelRunnerError
from modelrunner.events import Advanced, Event, Started, Verified
from modelrunner.oci.digest import Digest
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.library import Description, Library, LocalModel, PullJob, Recipe, Removal
from modelrunner.serve.models import Served
from modelrunner.serve.pool import ModelPool, Slot

_PULLS = 4
"""Pulls that run at a time; others wait."""

_FLUSH_S = 0.1
_log = logging.getLogger(__name__)


class Pull:
    """A pull that others can watch, from beginning to end."""

    job: PullJob

    def __init__(self) -> None:
        self.watchers = 0
        self.error: Exception | None = None
        self.model: LocalModel | None = None
        self._loop = asyncio.get_running_loop()
        self._history: list[Event] = []
        self._latest: dict[str, Advanced] = {}
        self._lock = threading.Lock()
        self._incoming: list[Event] = []
        self._changed = asyncio.Event()
        self.returned = asyncio.Event()
        """Set when the thread has ended."""
        self._done = False

    @classmethod
    async def prepared(cls, library: Library, text: str) -> "Pull":
        """Return a pull that has not begun.

        Raises:
            ModelRunnerError: See `Library.pulling`.
        """
        pull = cls()
        pull.job = await asyncio.to_thread(library.pulling, text, pull._on_event)
        return pull

    @property
    def key(self) -> str:
        """The full name of the model: pulls with the same one are the same."""
        return self.job.key

    async def events(self) -> AsyncIterator[Event]:
        """What has happened and what happens, until the pull ends.

        Whoever reads slowly misses steps in between, and no more than these.

        Raises:
            ModelRunnerError: The pull failed.
        """
        at, seen = 0, dict[str, int]()
        while True:
            changed, done = self._changed, self._done
            while at < len(self._history):
                at += 1
                yield self._history[at - 1]
            for digest, event in list(self._latest.items()):
                if seen.get(digest) != event.done:
                    seen[digest] = event.done
                    yield event
            if done:
                break
            await changed.wait()
        if self.error is not None:
            raise self.error.with_traceback(None)

    async def result(self) -> LocalModel:
        """The model, once it is stored.

        Raises:
            ModelRunnerError: The pull failed.
        """
        async for _event in self.events():
            pass
        if self.model is None:
            raise CanceledByUserError("the pull was canceled")
        return self.model

    def run(self) -> None:
        """In a thread: pull."""
        model: LocalModel | None = None
        error: Exception | None = None
        try:
            model = self.job.run()
        except Exception as exc:  # noqa: BLE001 - raised where the pull is waited for
            error = exc
        finally:
            # a loop that has ended has nobody who waits
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end, model, error)

    def finish(self) -> None:
        """Let the watchers go."""
        self._done = True
        self._notify()

    def _end(self, model: LocalModel | None, error: Exception | None) -> None:
        self._flush()
        self.model, self.error = model, error
        self.returned.set()

    def _on_event(self, event: Event) -> None:
        """In a thread: something has happened."""
        with self._lock:
            first = not self._incoming
            last = self._incoming[-1] if self._incoming else None
            if (
                isinstance(event, Advanced)
                and isinstance(last, Advanced)
                and last.digest == event.digest
            ):
                self._incoming[-1] = event
            else:
                self._incoming.append(event)
        if first:
            self._call(lambda: self._loop.call_later(_FLUSH_S, self._flush))

    def _call(self, action: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(action)
        except RuntimeError:
            # the loop has ended
            self.job.cancel()

    def _flush(self) -> None:
        with self._lock:
            incoming, self._incoming = self._incoming, []
        for event in incoming:
            if isinstance(event, Advanced):
                self._latest[event.digest] = event
                continue
            if isinstance(event, Verified | Started):
                self._latest.pop(event.digest, None)
            self._history.append(event)
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


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
    _pulls: dict[str, Pull] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PULLS))
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
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
    async def pull(self, text: str) -> AsyncIterator[Pull]:
        """The block in which somebody watches a pull; without watchers it is called off.

        Raises:
            InvalidReferenceError: The text is not the name of a model.
            ModelNotFoundError: A name under `local/` is not in the store.
        """
        pull = await Pull.prepared(self.library, text)
        known = self._pulls.get(pull.key)
        if known is None:
            self._pulls[pull.key] = pull
            task = asyncio.create_task(self._pulled(pull))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            pull = known
        pull.watchers += 1
        try:
            yield pull
        finally:
            pull.watchers -= 1
            if not pull.watchers:
                self._forget(pull)
                pull.job.cancel()

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
        """Call all pulls off."""
        for pull in self._pulls.values():
            pull.job.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _changing(self, change: Callable[[], LocalModel]) -> LocalModel:
        model = await asyncio.to_thread(change)
        await self._follow([model.digest])
        return model

    async def _pulled(self, pull: Pull) -> None:
        """Pull in a thread, and serve what came; then let the watchers go."""
        try:
            async with self._slots:
                if not pull.watchers:
                    return
                # not of a pool of threads: one that hangs would keep the program from ending
                threading.Thread(target=pull.run, name=f"pull {pull.key}", daemon=True).start()
                await pull.returned.wait()
            if pull.model is not None:
                await self._follow([pull.model.digest])
        except ModelRunnerError as exc:
            pull.error = exc
        finally:
            self._forget(pull)
            pull.finish()

    def _forget(self, pull: Pull) -> None:
        if self._pulls.get(pull.key) is pull:
            del self._pulls[pull.key]

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
                    _log.warning("not served: %s: %s", first.short, exc.message)
                failed |= {str(each): exc for each in stored[digest].references}
        self.pool.unservable = before | failed
        return found


def _in_use(slot: Slot) -> RefusalError:
    return RefusalError(
        409,
        f"{slot.model.name} is in use: try again when its answers are complete",
        "model_in_use",
    )
