"""How each model is served: its context, what that needs, and whether it fits the budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from modelrunner.errors import DoesNotFitError
from modelrunner.memory.context import DefaultContext, default_context, running_context
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.estimate import Estimate, estimate
from modelrunner.memory.fit import Budget, fit, longest_context
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import PADDING, Load
from modelrunner.memory.retained import Retained, room_beside
from modelrunner.operations.estimate.observations import weights_key
from modelrunner.operations.launch.beside import (
    decided,
    draft_estimate,
    draft_shape,
    with_adapters,
)
from modelrunner.operations.launch.plan import (
    SHORT_CONTEXT,
    LaunchPlan,
    adapter_file,
    keeping,
    plan_launch,
    tighter,
    with_retained,
)
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.operations.model import headers
from modelrunner.operations.model.capabilities import capabilities_of_one
from modelrunner.operations.model.purpose import require_model
from modelrunner.operations.model.rows import row_of
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.capabilities.facts import Capabilities
from modelrunner.serve.models import Facts, Kind, Served
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_size

_SEVERAL = (4, 2)
_LONGEST_TEXT = 8192
"""Tokens of a text that is turned into a vector: computed at once, which takes memory."""


@dataclass(frozen=True, slots=True)
class ServePlan:
    """A model as it will be served, and what to say of it."""

    served: Served
    line: str
    fits: bool
    warning: str | None = None


def plan_serving(
    store: Store,
    model: StoredModel,
    name: str,
    request: LaunchRequest,
    available: Sequence[Device],
    *,
    several: bool = True,
    budget: int | None = None,
) -> ServePlan:
    """Decide how to serve a model: one that writes, or one that makes vectors.

    Args:
        store: Where it is.
        model: The model.
        name: What people call it.
        request: What the user asks for.
        available: The devices of this machine.
        several: Whether the runtime answers several requests at the same time; where the request
            does not say how many, it is as many as fit, up to four.
        budget: Bytes that the model may take; None for what the devices have.

    Raises:
        CorruptStoreError, MalformedGGUFError, UnsupportedArtifactError: It cannot be served.
        DoesNotFitError: It needs more than the budget, even with a short context.
    """
    found = headers.of_stored(model)
    require_model(found.metadata, name)
    request = decided(request, found.metadata, name)
    demand = _Demand(
        with_adapters(found.shape, request), found.projector_memory, draft_shape(request)
    )
    if found.metadata.is_embedding:
        return _plan_vectors(model, name, request, found, demand, available, budget)
    plan = plan_launch(store, model, name, request, available)
    if budget is not None:
        needed = demand.bytes(plan.load)
        if needed > budget:
            request = _narrowed(name, request, demand, budget, needed, most=plan.spec.context)
            plan = plan_launch(store, model, name, request, available)
            # what the budget allows, nobody has asked for
            plan = replace(plan, requested=None, context_source="memory")
        plan = replace(plan, budget=budget)
    if several and request.parallel is None:
        room = min(_known(budget, plan.fit.budget_bytes), default=None)
        for count in _SEVERAL:
            load = replace(plan.load, context=plan.load.context * count, parallel=count)
            if not demand.is_known or room is None or demand.bytes(load) <= room:
                spec = replace(plan.spec, parallel=count)
                return _planned(model, plan, spec, demand, load, request.system)
    return _planned(model, plan, plan.spec, demand, plan.load, request.system)


@dataclass(frozen=True, slots=True)
class _Demand:
    """What a model takes of memory, with all that is loaded beside it.

    Attributes:
        shape: The model.
        projector: Bytes of the projector's file, where there is one.
        draft: The draft model, where there is one.
    """

    shape: ModelShape
    projector: int | None = None
    draft: ModelShape | None = None

    @property
    def is_known(self) -> bool:
        """Whether more is known than the size of the weights."""
        return self.shape.is_known and (self.draft is None or self.draft.is_known)

    def bytes(self, load: Load) -> int:
        """The most that it will take; what the weights take where no more is known."""
        own = _most(estimate(self.shape, load, projector=self.projector))
        return own if self.draft is None else own + _most(draft_estimate(self.draft, load))

    def longest(self, load: Load, budget: int) -> int | None:
        """The longest context of one conversation for which a budget is enough."""
        count = load.parallel

        def spare(tokens: int) -> int:
            return budget - self.bytes(replace(load, context=tokens * count))

        return longest_context(self.shape, spare) if self.is_known else None


def _most(needed: Estimate) -> int:
    return needed.total if needed.high is None else needed.high


def _known(*values: int | None) -> list[int]:
    return [value for value in values if value is not None]


def _narrowed(
    name: str, request: LaunchRequest, demand: _Demand, budget: int, needed: int, *, most: int
) -> LaunchRequest:
    """The request with a context, no longer than `most`, for which a budget is enough.

    Raises:
        DoesNotFitError: No context fits, or not the one that was asked for.
    """
    longest = demand.longest(request.load(1), budget)
    if request.context is not None:
        raise _too_large(
            f"{name} with context {request.context}",
            needed,
            budget,
            f"use --context {longest} or less" if longest else _larger(demand, request),
        )
    tight = tighter(request, demand.shape) if (longest or 0) < min(SHORT_CONTEXT, most) else None
    if tight is not None:
        packed = demand.longest(tight.load(1), budget)
        if (packed or 0) > (longest or 0):
            request, longest = tight, packed
    if longest is None:
        least = demand.bytes(replace(request.load(1), context=PADDING * request.load(1).parallel))
        raise _too_large(name, least, budget, _larger(demand, request))
    return replace(request, context=min(longest, most))


def _larger(demand: _Demand, request: LaunchRequest) -> str:
    """What helps where no context is short enough."""
    load = request.load(1)
    least = demand.bytes(replace(load, context=PADDING * load.parallel))
    parts = " or a lower --parallel" if load.parallel > 1 else ""
    return f"raise --budget to {format_size(least)} at least, or use a smaller variant{parts}"


def _too_large(what: str, needed: int, budget: int, hint: str) -> DoesNotFitError:
    return DoesNotFitError(
        f"{what} needs {format_size(needed)}, the budget is {format_size(budget)}",
        hint=hint,
        needed_bytes=needed,
        budget_bytes=budget,
    )


def budget_of(available: Sequence[Device]) -> int:
    """Bytes that models may take together."""
    return Budget.of(available).together


def rooms_of(available: Sequence[Device]) -> tuple[tuple[str, int], ...]:
    """Return the bytes that models may take of each GPU that has memory of its own."""
    gpus = [device for device in available if device.kind == "gpu" and not device.shared]
    return tuple(zip(_identities(gpus), Budget.of(gpus).each, strict=True))


def _identities(gpus: Sequence[Device]) -> list[str]:
    """What identifies each GPU, whichever of them a model may use."""
    return [gpu.handle or gpu.pci or gpu.name for gpu in gpus]


def _on_gpus(
    demand: _Demand, load: Load, available: Sequence[Device]
) -> tuple[tuple[str, int], ...]:
    """What a model takes of each GPU."""
    gpus = [device for device in available if device.kind == "gpu" and not device.shared]
    if not gpus or not demand.is_known:
        return ()
    beside = (demand.projector or 0) + (
        0 if demand.draft is None else _most(draft_estimate(demand.draft, load))
    )
    found = fit(demand.shape, load, available, projector=beside)
    held = [place.need_bytes for place in found.devices if place.kind == "gpu"]
    return tuple(zip(_identities(gpus), held, strict=False)) if found.verdict != "no" else ()


def _plan_vectors(
    model: StoredModel,
    name: str,
    request: LaunchRequest,
    found: headers.Headers,
    demand: _Demand,
    available: Sequence[Device],
    budget: int | None,
) -> ServePlan:
    metadata = found.metadata
    trained = metadata.context_length or _LONGEST_TEXT
    default = default_context(trained, model.config.context_size, _LONGEST_TEXT)
    # no runtime takes a longer text than the model was trained for
    context = running_context(min(request.context or default.tokens, trained), trained)

    def load_of(tokens: int) -> Load:
        # an encoder sees its text whole
        return replace(request, micro_batch=request.micro_batch or tokens).load(tokens)

    needed = demand.bytes(load_of(context))
    if budget is not None and needed > budget:
        context = _shorter_text(name, context, request, demand, load_of, budget)
        needed = demand.bytes(load_of(context))
    requested = request.context
    request = replace(
        request,
        batch=request.batch or context,
        micro_batch=request.micro_batch or context,
    )
    spec = request.spec(
        model.weights(),
        name,
        context,
        adapter=adapter_file(model),
        purpose="ranking" if metadata.is_ranking else "embedding",
    )
    there = budget_of(available)
    fits = not demand.is_known or needed <= there
    verdict = "fits" if fits else "does not fit"
    need = f"{verdict}, needs {format_size(needed)}" if demand.is_known else "memory unknown"
    place = f"{format_size(there)} memory"
    if budget is not None and fits:
        place = f"the {format_size(budget)} budget"
    does = "reranks up to" if metadata.is_ranking else "embeds up to"
    why = _why(requested, context, default)
    line = f"{name}: {need} of {place}; {does} {context} tokens{why}"
    kind: Kind = "ranking" if metadata.is_ranking else "embedding"
    memory = needed if demand.is_known else None
    served = _served(model, spec, memory, kind, capabilities_of_one(model))
    facts = replace(served.facts, embedding_length=metadata.embedding_length)
    on_gpus = _on_gpus(demand, load_of(context), available)
    return ServePlan(replace(served, facts=facts, on_gpus=on_gpus), line, fits)


def _shorter_text(
    name: str,
    context: int,
    request: LaunchRequest,
    demand: _Demand,
    load_of: Callable[[int], Load],
    budget: int,
) -> int:
    """The longest text for which a budget is enough.

    Raises:
        DoesNotFitError: No text fits, or not the length that was asked for.
    """

    def spare(tokens: int) -> int:
        return budget - demand.bytes(load_of(tokens)) if tokens <= context else -1

    longest = longest_context(demand.shape, spare) if demand.is_known else None
    if longest is None or request.context is not None:
        needed = demand.bytes(load_of(context if longest else min(context, PADDING)))
        raise _too_large(
            name,
            needed,
            budget,
            f"use --context {longest} or less"
            if longest
            else f"raise --budget to {format_size(needed)} at least",
        )
    return longest


def _why(requested: int | None, context: int, default: DefaultContext) -> str:
    """Why a text may have so many tokens, where that is not what one would expect."""
    if requested is None:
        packaged = default.source == "packaged" and context == default.tokens
        return ", as packaged" if packaged else ""
    return f" (context rounded up to {context})" if context > requested else ""


def _planned(
    model: StoredModel,
    plan: LaunchPlan,
    spec: LaunchSpec,
    demand: _Demand,
    load: Load,
    system: str | None,
) -> ServePlan:
    needed = demand.bytes(load) if demand.is_known else None
    kept = _kept(plan, spec, demand, load)
    spec = with_retained(spec, kept)
    line = replace(plan, retained=kept).line(needed)
    if spec.parallel > 1:
        line = f"{line}; {spec.parallel} requests at a time"
    fits = plan.fit.verdict != "no"
    served = _served(model, spec, needed, "chat", plan.capabilities)
    on_gpus = _on_gpus(demand, load, plan.available)
    served = replace(served, system=system or None, on_gpus=on_gpus)
    return ServePlan(served, line, fits, plan.projector_problem or plan.think_note)


def _kept(plan: LaunchPlan, spec: LaunchSpec, demand: _Demand, load: Load) -> Retained:
    """What is kept beside a model and all its conversations."""
    needed = demand.bytes(load)
    room = room_beside(plan.fit, plan.estimate.total, plan.available)
    if room is not None:
        room = max(room - (needed - demand.bytes(plan.load)), 0)
    if plan.budget is not None:
        room = min(_known(room, max(plan.budget - needed, 0)))
    return keeping(demand.shape, load, spec, room)


def _served(
    model: StoredModel,
    spec: LaunchSpec,
    needed: int | None,
    kind: Kind,
    capabilities: Capabilities | None,
) -> Served:
    return Served(
        name=spec.name,
        digest=model.digest,
        references=model.references,
        aliases=frozenset(model.aliases),
        kind=kind,
        spec=replace(spec, api_key=""),
        memory=needed,
        facts=facts_of(model, capabilities),
        weights=weights_key(model.artifact),
        stored=model.is_stored,
    )


def facts_of(model: StoredModel, capabilities: Capabilities | None) -> Facts:
    """What lists say of a model besides its names."""
    row = row_of(model)
    # bounded: a time of our own store
    created = row.created and int(datetime.fromisoformat(row.created).timestamp())
    return Facts(
        created=created or None,
        architecture=row.architecture,
        parameters=row.parameters,
        quantization=row.quantization,
        size_bytes=row.size_bytes,
        capabilities=capabilities,
        stored_at=_stored_at(model),
    )


def _stored_at(model: StoredModel) -> float | None:
    """When a model came into the store, in seconds since the epoch."""
    try:
        return model.blob(model.descriptor).stat().st_mtime if model.is_stored else None
    except OSError:
        return None
