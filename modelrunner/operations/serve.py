"""Serve: models of the store behind one endpoint, each planned first and loaded when asked for."""

import importlib.util
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.memory.devices import Device
from modelrunner.memory.estimate import Estimate, estimate
from modelrunner.memory.fit import Budget
from modelrunner.memory.shape import ModelShape
from modelrunner.operations import headers
from modelrunner.operations.launch import LaunchPlan, LaunchWish, plan_launch
from modelrunner.operations.rows import row_of
from modelrunner.processes import process_start
from modelrunner.runtime.runtime import LaunchSpec, Runtime
from modelrunner.runtime.threads import usable_cores
from modelrunner.serve.lineup import Facts, Kind, Served
from modelrunner.serve.records import Record, record_name, recorded
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_size

if TYPE_CHECKING:
    import signal
    import socket

_MODULES = ("h11", "starlette", "uvicorn")
_HINT = "pip install 'modelrunner[serve]'"
_SEVERAL = (4, 2)
_LONGEST_TEXT = 8192
"""Tokens of a text that is turned into a vector: computed at once, which takes memory."""


@dataclass(frozen=True, slots=True)
class ServePlan:
    """A model as it will be served, and what to say of it."""

    served: Served
    line: str
    fits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOrder:
    """What is served, where, and for whom.

    Attributes:
        models: The models.
        runtime: What runs them.
        host: The address to listen on.
        api_key: What requests must carry; None for nothing.
        origins: Web pages that may ask.
        keep_alive: Seconds that a model stays loaded unused; None for ever.
        budget: Bytes of memory for all models together.
        state: The folder for records and logs.
    """

    models: Sequence[Served]
    runtime: Runtime
    host: str
    api_key: str | None = field(repr=False)
    origins: frozenset[str]
    keep_alive: float | None
    budget: int | None
    state: Path


def require_libraries() -> None:
    """Looks for what the gateway is made of, before anything else is done.

    Raises:
        RuntimeUnavailableError: It is not installed.
    """
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeUnavailableError(f"serving needs the Python module {missing[0]}", hint=_HINT)


def plan_serving(
    store: Store,
    model: StoredModel,
    name: str,
    wish: LaunchWish,
    available: Sequence[Device],
    *,
    several: bool = True,
) -> ServePlan:
    """Decides how to serve a model: one that writes, or one that makes vectors.

    Args:
        store: Where it is.
        model: The model.
        name: What people call it.
        wish: What the user asks for.
        available: The devices of this machine.
        several: Whether the runtime answers several requests at the same time; where the wish
            does not say how many, it is as many as fit, up to four.

    Raises:
        CorruptStoreError, MalformedGGUFError, UnsupportedArtifactError: It cannot be served.
    """
    found = headers.of_stored(model)
    if found.metadata.is_embedding:
        return _plan_vectors(model, name, wish, found, available)
    plan = plan_launch(store, model, name, wish, available)
    if several and "parallel" not in wish.more:
        shape = ModelShape.from_header(found.first, shards=found.shards[1:])
        room = plan.fit.budget_bytes
        for count in _SEVERAL:
            load = replace(plan.load, context=plan.load.context * count, sequences=count)
            needed = _total(estimate(shape, load, projector=found.projector_bytes))
            if needed is None or room is None or needed <= room:
                return _planned(model, plan, replace(plan.spec, parallel=count), needed)
    return _planned(model, plan, plan.spec, _total(plan.estimate))


def budget_of(available: Sequence[Device]) -> int:
    """Bytes that models may take together."""
    return Budget.of(available).together


def serve(order: ServeOrder, listener: "socket.socket", logs: Path) -> "signal.Signals | None":
    """Serves to the end; the signal that brought it, None where nothing was left to serve.

    Args:
        order: What is served.
        listener: Where requests come from.
        logs: What the names of log files begin with.

    Raises:
        StoreAccessError, DiskFullError: The state folder cannot be written.
    """
    from modelrunner.serve.access import Door
    from modelrunner.serve.fleet import Fleet
    from modelrunner.serve.gateway import Gateway, url_of

    control_key = secrets.token_urlsafe(32)
    record = Record(
        name=name_of(order.host, listener),
        pid=os.getpid(),
        started=process_start(os.getpid()) or "",
        url=url_of(listener),
        control_key=control_key,
        models=tuple(model.name for model in order.models),
    )
    fleet = Fleet(order.runtime, order.models, logs, order.budget, order.keep_alive)
    door = Door(order.host, order.api_key, control_key, order.origins)
    with recorded(order.state, record):
        return Gateway(listener, fleet, door).run()


def name_of(host: str, listener: "socket.socket") -> str:
    """What the files of a server are called by."""
    return record_name(host, listener.getsockname()[1])


def _plan_vectors(
    model: StoredModel,
    name: str,
    wish: LaunchWish,
    found: headers.Headers,
    available: Sequence[Device],
) -> ServePlan:
    metadata = found.metadata
    context = wish.context or min(metadata.context_length or _LONGEST_TEXT, _LONGEST_TEXT)
    # an encoder sees its text whole
    wish = replace(wish, more={"batch": context, "micro_batch": context, **wish.more})
    keys, values = wish.cache_types
    spec = LaunchSpec(
        model=model.weights(),
        name=name,
        context=context,
        threads=wish.threads or usable_cores(),
        api_key="",
        gpu_layers=wish.gpu_layers,
        cache_type_k=keys,
        cache_type_v=values,
        embedding=not metadata.is_ranking,
        ranking=metadata.is_ranking,
        **wish.more,
    )
    shape = ModelShape.from_header(found.first, shards=found.shards[1:])
    needed = _total(estimate(shape, wish.load(context)))
    room = budget_of(available)
    fits = needed is None or needed <= room
    verdict = "fits" if fits else "does not fit"
    told = f"{verdict}, needs {format_size(needed)}" if needed is not None else "memory not known"
    does = "scores documents of" if metadata.is_ranking else "makes vectors of"
    line = f"{name}: {told} of {format_size(room)} memory; {does} {context} tokens"
    kind: Kind = "ranking" if metadata.is_ranking else "embedding"
    return ServePlan(_served(model, name, spec, needed, kind), line, fits)


def _planned(
    model: StoredModel, plan: LaunchPlan, spec: LaunchSpec, needed: int | None
) -> ServePlan:
    line = plan.line()
    if spec.parallel > 1:
        room = f" take {format_size(needed)}" if needed is not None else ""
        line = f"{line}; {spec.parallel} requests at a time{room}"
    fits = plan.fit.verdict != "no"
    return ServePlan(_served(model, plan.name, spec, needed, "chat"), line, fits)


def _total(found: Estimate) -> int | None:
    """The bytes of an estimate that knows all of them."""
    return found.total if found.is_complete else None


def _served(
    model: StoredModel, name: str, spec: LaunchSpec, needed: int | None, kind: Kind
) -> Served:
    row = row_of(model)
    created = row.created and int(datetime.fromisoformat(row.created).timestamp())
    return Served(
        name=name,
        digest=model.digest,
        references=model.references,
        kind=kind,
        spec=replace(spec, api_key=""),
        memory=needed,
        facts=Facts(
            created=created or None,
            architecture=row.architecture,
            parameters=row.parameters,
            quantization=row.quantization,
            size_bytes=row.size_bytes,
        ),
    )
