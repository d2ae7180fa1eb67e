"""The runtimes behind the gateway: each started when it is asked for, ended when nobody asks.

```
idle --first request--> loading --ready--> loaded --keep-alive over, or its memory is needed--> idle
                           |                  |
                        failed: idle        died: idle; the next request starts it again
```

Who comes while a model loads waits for that one load. Where memory asks for it, the model that was
used least recently goes; a model that is answering is waited for.
"""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from modelrunner.errors import (
    DoesNotFitError,
    ModelNotFoundError,
    ModelRunnerError,
    RuntimeFailedError,
)
from modelrunner.oci.digest import Digest
from modelrunner.runtime.base import Runtime, Server
from modelrunner.runtime.placement import Placement
from modelrunner.serve.models import Called, Room, Served, find
from modelrunner.serve.observability.metrics import Metrics
from modelrunner.serve.observability.request_log import RequestLog
from modelrunner.serve.process.records import log_of
from modelrunner.units import format_duration, format_size

READY_WITHIN_S = 600.0
_REFUSED_FOR_S = 300.0
"""How long a model that the runtime does not know is not tried again."""

_ROOM_WITHIN_S = 120.0
_DEATH_S = 2.0
_TICK_S = 0.05
_log = logging.getLogger(__name__)

State = Literal["idle", "loading", "loaded"]


class BusyError(RuntimeFailedError):
    """There is no room for the model, and what takes the room is answering."""


class _AbandonedError(Exception):
    """The load was called off."""


@dataclass(slots=True)
class Slot:
    """A model's place in the pool.

    Attributes:
        model: Whose it is.
        server: What serves it; None while it is not loaded.
        placement: Where its server has put it, as far as that says.
        loading: The load that everybody waits for.
        users: Requests that are being answered, or wait for the load.
        used_at: When somebody used it last, in seconds since the epoch.
        loaded_at: When it was loaded, on the monotonic clock.
        kept_s: Seconds that a request wants it to stay loaded unused, until it is unloaded.
        keep_alive: The same as it is configured; None as the server has it.
        expiry: What unloads it when nobody asks for it.
        retired: Whether it is served no more.
        failure: Why it cannot be loaded, where another try would end in the same way.
        failed_at: When that was found, on the monotonic clock.
    """

    model: Served
    server: Server | None = None
    placement: Placement | None = None
    loading: "asyncio.Task[Server] | None" = None
    users: int = 0
    used_at: float = 0.0
    loaded_at: float = 0.0
    kept_s: float | None = None
    keep_alive: float | None = None
    expiry: asyncio.TimerHandle | None = None
    retired: bool = False
    failure: RuntimeFailedError | None = None
    failed_at: float = 0.0

    @property
    def state(self) -> State:
        """What it is up to."""
        if self.loading is not None:
            return "loading"
        return "idle" if self.server is None or not is_alive(self.server) else "loaded"

    @property
    def context(self) -> int:
        """Tokens of one conversation: as the runtime says once it runs, before that as planned."""
        server = self.server
        return (server.context if server is not None else None) or self.model.spec.context


def is_alive(server: Server) -> bool:
    """Whether a server's process runs; one that is not ours is believed to."""
    return server.pid is None or server.alive()


class StartHistory(Protocol):
    """What remembers how starts ended; called in threads."""

    def ready(self, model: Served) -> None:
        """Take a model that was loaded."""
        ...

    def explained(self, model: Served, error: RuntimeFailedError) -> RuntimeFailedError:
        """Return the failure of a start, with what is known of earlier ones."""
        ...


@dataclass(slots=True)
class ModelPool:
    """All models that are served.

    Attributes:
        runtime: What serves them.
        logs: The directory for what runtimes print, and the beginning of the files' names.
        budget: Bytes that all of them may take together; None for no limit.
        keep_alive: Seconds that a model stays loaded unused; None for ever.
        strict: Whether a model that needs more than the budget is refused instead of tried alone.
        history: What remembers how starts ended.
        gpus: Bytes of each GPU that they may take together, by what identifies it.
        metrics: What counts.
        requests: What notes each request.
    """

    runtime: Runtime
    models: Sequence[Served]
    logs: Path
    budget: int | None
    keep_alive: float | None
    strict: bool = False
    history: StartHistory | None = None
    metrics: Metrics = field(default_factory=Metrics)
    requests: RequestLog = field(default_factory=RequestLog)
    gpus: tuple[tuple[str, int], ...] = ()
    slots: dict[str, Slot] = field(init=False)
    stopped: set[Digest] = field(default_factory=set)
    """Models that a user has stopped."""
    unservable: dict[str, ModelRunnerError] = field(default_factory=dict)
    """Why models of the store are not served, where they should be, by their full names."""
    _leaving: list[Slot] = field(default_factory=list)
    """Slots of models that are served no more, while they answer what was begun."""
    _room: asyncio.Lock = field(default_factory=asyncio.Lock)
    _freed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: "set[asyncio.Task[Any]]" = field(default_factory=set)
    _closing: bool = False

    def __post_init__(self) -> None:
        self.slots = {model.name: Slot(model) for model in self.models}

    @property
    def served(self) -> list[Served]:
        """The models that requests may ask for."""
        return [slot.model for slot in self.slots.values()]

    def find(self, text: str) -> Served | None:
        """The model that a request means; None where there is none.

        Raises:
            ModelRunnerError: It is stored and cannot be served.
        """
        found = find(self.served, text)
        why = self.unservable.get(Called.parse(text).spelled) if found is None else None
        if why is not None:
            raise why.with_traceback(None)
        return found

    def log_of(self, model: Served) -> Path:
        """The file with what a model's runtime prints."""
        return log_of(self.logs, model.name)

    @asynccontextmanager
    async def borrowed(self, model: Served) -> AsyncIterator[Server]:
        """The block in which a model is loaded and stays so.

        Raises:
            ModelRunnerError: It cannot be loaded.
        """
        slot = self.slots.get(model.name)
        if slot is None:
            raise _not_served(model)
        slot.users += 1
        if slot.expiry is not None:
            slot.expiry.cancel()
        try:
            yield await self._ready(slot)
        finally:
            slot.users -= 1
            slot.used_at = time.time()
            self._leave(slot)

    async def died(self, server: Server) -> bool:
        """Whether a server that broke off has ended; the system takes a moment to say so."""
        end = time.monotonic() + _DEATH_S
        while is_alive(server):
            if server.pid is None or time.monotonic() > end:
                return False
            await asyncio.sleep(_TICK_S)
        return True

    def kept_s(self, slot: Slot) -> float:
        """Seconds that a model stays loaded unused; infinity for ever."""
        for kept in (slot.kept_s, slot.keep_alive, self.keep_alive):
            if kept is not None:
                return kept
        return math.inf

    async def unload(self, slot: Slot, reason: str) -> bool:
        """Takes a model out of memory; whether it was there."""
        server, slot.server = slot.server, None
        slot.kept_s = None
        if server is None:
            return False
        self.metrics.add("unloads_total", model=slot.model.name, reason=reason)
        await self._stop(server)
        _log.info("%s unloaded: %s", slot.model.name, reason)
        self._freed.set()
        return True

    async def _stop(self, server: Server) -> None:
        """Ends a server; once begun, whoever asked for it may be called off."""
        task = asyncio.create_task(asyncio.to_thread(server.stop))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def retire(self, model: Served) -> None:
        """Serves a model no more: answers that are under way break off."""
        slot = self.slots.pop(model.name)
        slot.retired = True
        self.stopped.add(model.digest)
        await self.unload(slot, "stopped")

    def update(self, models: Sequence[Served]) -> None:
        """Serve these models, and no others: what was served of them stays in memory.

        Answers of the others that are under way are completed.
        """
        before = {slot.model.digest: slot for slot in self.slots.values()}
        slots = {}
        for model in models:
            slot = before.pop(model.digest, None) or Slot(model)
            slot.model = model
            slots[model.name] = slot
        self.slots = slots
        for slot in before.values():
            slot.retired = True
            self._leaving.append(slot)
            self._leave(slot)

    async def leave(self, slot: Slot) -> None:
        """End the runtime of a model that is served no more: its answers break off."""
        if slot.retired:
            await self.unload(slot, "removed")

    async def close(self) -> None:
        """Ends every runtime, those that are loading too."""
        self._closing = True
        slots = [*self.slots.values(), *self._leaving]
        loads = [slot.loading for slot in slots if slot.loading is not None]
        ends = [self.unload(slot, "the server stops") for slot in slots]
        await asyncio.gather(*ends, *loads, *self._tasks, return_exceptions=True)
        self.requests.close()

    async def _ready(self, slot: Slot) -> Server:
        if slot.server is not None and is_alive(slot.server):
            return slot.server
        if slot.failure is not None:
            if time.monotonic() - slot.failed_at < _REFUSED_FOR_S:
                raise slot.failure.with_traceback(None)
            slot.failure = None
        if slot.loading is None:
            slot.loading = asyncio.create_task(self._load(slot))
            slot.loading.add_done_callback(_log_failed_load)
        # whoever goes away does not take the load from the others
        return await asyncio.shield(slot.loading)

    async def _load(self, slot: Slot) -> Server:
        try:
            async with self._room:
                await self._clear_away(slot)
                await self._make_room(slot)
                begun = time.monotonic()
                server = await asyncio.to_thread(self._start, slot)
        except RuntimeFailedError as exc:
            self.metrics.add("load_failures_total", model=slot.model.name)
            if exc.unsupported:
                slot.failure, slot.failed_at = exc, time.monotonic()
            raise
        finally:
            slot.loading = None
        if slot.retired or self._closing:
            await self._stop(server)
            raise _not_served(slot.model)
        slot.server, slot.used_at, slot.loaded_at = server, time.time(), time.monotonic()
        slot.placement = await asyncio.to_thread(server.placement)
        took = time.monotonic() - begun
        self.metrics.add("loads_total", model=slot.model.name)
        self.metrics.add("load_seconds_total", took, model=slot.model.name)
        _log.info("%s loaded with %s in %.1f s", slot.model.name, self.runtime.name, took)
        if slot.placement is not None:
            _log.info("%s: %s", slot.model.name, slot.placement.line())
        if not slot.users:
            self._leave(slot)
        return server

    def _start(self, slot: Slot) -> Server:
        """In a thread: starts the runtime and waits for it."""

        def tick(_fraction: float | None) -> None:
            if self._closing or slot.retired:
                raise _AbandonedError

        # a key of its own for every start: none is ever known to a client
        spec = replace(slot.model.spec, api_key=secrets.token_urlsafe(32))
        try:
            server = self.runtime.start(spec, self.log_of(slot.model))
            server.wait_until_ready(READY_WITHIN_S, tick)
        except _AbandonedError as exc:
            raise _not_served(slot.model) from exc
        except RuntimeFailedError as exc:
            if self.history is None:
                raise
            raise self.history.explained(slot.model, exc) from exc
        if self.history is not None:
            self.history.ready(slot.model)
        return server

    async def _clear_away(self, slot: Slot) -> None:
        """What is left of a runtime that has ended by itself."""
        server, slot.server = slot.server, None
        if server is None:
            return
        self.metrics.add("runtime_deaths_total", model=slot.model.name)
        _log.warning("%s: the runtime exited; restarting it", slot.model.name)
        await self._stop(server)
        if server.log is not None and server.log.exists():
            # what it said last is not overwritten by the next one
            server.log.replace(server.log.with_suffix(".before"))

    async def _make_room(self, slot: Slot) -> None:
        claim = slot.model.claim
        if self.strict and self.budget is not None and claim > self.budget:
            raise DoesNotFitError(
                f"{slot.model.name} needs {format_size(claim)},"
                f" the budget is {format_size(self.budget)}",
                hint="start the server with a larger --budget, or use a smaller model",
            )
        end = time.monotonic() + _ROOM_WITHIN_S
        while others := self._in_the_way(slot):
            free = [other for other in others if not other.users]
            if free:
                oldest = min(free, key=lambda other: other.used_at)
                await self.unload(oldest, f"{slot.model.name} needs its memory")
                continue
            self._freed.clear()
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    await self._freed.wait()
            except TimeoutError as exc:
                names = ", ".join(other.model.name for other in others)
                raise BusyError(
                    f"not enough memory for {slot.model.name} while {names} is in use",
                    hint="try again later",
                ) from exc

    def _in_the_way(self, slot: Slot) -> list[Slot]:
        """The models that are loaded, if they leave too little room for one more."""
        slots = [*self.slots.values(), *self._leaving]
        loaded = [other for other in slots if other.server is not None]
        room = Room(self.budget, self.gpus)
        return [] if room.holds([slot.model, *(other.model for other in loaded)]) else loaded

    def _leave(self, slot: Slot) -> None:
        if slot.users:
            return
        self._freed.set()
        if slot.retired and not self._closing:
            self._leaving = [other for other in self._leaving if other is not slot]
            self._begin(self.unload(slot, "removed"))
            return
        kept = self.kept_s(slot)
        if slot.server is None or math.isinf(kept) or self._closing:
            return
        loop = asyncio.get_running_loop()
        slot.expiry = loop.call_later(kept, self._expire, slot)

    def _expire(self, slot: Slot) -> None:
        if slot.users or slot.server is None or self._closing:
            return
        waited = format_duration(self.kept_s(slot))
        self._begin(self.unload(slot, f"unused for {waited}"))

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        # the loop itself holds its tasks weakly
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _not_served(model: Served) -> ModelNotFoundError:
    return ModelNotFoundError(f"{model.name} is not served anymore")


def _log_failed_load(load: "asyncio.Task[Server]") -> None:
    """A load that fails is told in the log, even if everybody who waited has gone away."""
    error = None if load.cancelled() else load.exception()
    if isinstance(error, ModelRunnerError):
        _log.warning("%s", error.message)
