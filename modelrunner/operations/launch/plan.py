"""Launch: from a stored model to a server that answers; planned first, then started.

The context is what was asked for, or else as long as the artifact says, as the model was trained
for, as fits into this machine, and as is usual. It is reported as it will run, and never silently
less.
"""

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from modelrunner.frozen import frozen, replace
from modelrunner.gguf.metadata import Metadata, purpose_of
from modelrunner.memory.context import (
    ContextSource,
    DefaultContext,
    default_context,
    running_context,
)
from modelrunner.memory.devices.device import NO_DEVICE
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.estimate import Estimate, estimate
from modelrunner.memory.fit import Budget, Fit, choose_context, fit
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.kv_cache import takes
from modelrunner.memory.plan.load import Load
from modelrunner.memory.retained import MIB, Retained, retained, room_beside
from modelrunner.operations.estimate.fit_sentence import fit_sentence, memory_of
from modelrunner.operations.estimate.observations import Observation, judged
from modelrunner.operations.launch.beside import (
    decided,
    draft_estimate,
    draft_shape,
    with_adapters,
    with_draft,
)
from modelrunner.operations.launch.request import USUAL_CACHE, LaunchRequest
from modelrunner.operations.model import headers
from modelrunner.operations.model.capabilities import (
    capabilities_of_headers,
    capabilities_of_one,
)
from modelrunner.operations.model.purpose import require_chat, require_model
from modelrunner.operations.model.recommended import recommended_by
from modelrunner.runtime.base import LaunchSpec, Runtime, RuntimeOptions
from modelrunner.runtime.capabilities.facts import Capabilities
from modelrunner.runtime.capabilities.think import Thinker
from modelrunner.runtime.sampling import Recommended
from modelrunner.runtime.settings import RPC_WARNING
from modelrunner.store.store import Store, StoredModel, missing
from modelrunner.units import counted, format_size

SHORT_CONTEXT = 8192
"""Tokens below which a cache that is packed tighter is worth what it costs."""

TIGHT_CACHE = "q8_0"


@frozen
class LaunchPlan:
    """How a model will be started, and whether it fits.

    Attributes:
        name: What the user calls it.
        metadata: What its header says.
        spec: What the runtime gets.
        load: What that asks of memory.
        estimate: The memory that it takes, as computed.
        fit: Whether that is available.
        available: The devices of this machine.
        requested: The context that was asked for; None for the default one.
        context_source: What decided the context.
        seen: What it took when it was started like this before.
        budget: Bytes that were set as its limit and are enough; None for what the devices have.
        own_template: The chat template that the artifact brings beside the weights.
        projector_problem: Why the artifact's projector is left out.
        recommended: How tokens are chosen where a request does not say, and who says so.
        capabilities: What the model can do, with the chat template that it is started with.
        think: How much to think, as it was asked for; None where nobody has said.
        think_note: What to say of that: that the model cannot, or does otherwise.
        retained: What the server keeps of earlier prompts; None where nothing is planned.
    """

    name: str
    metadata: Metadata
    spec: LaunchSpec
    load: Load
    estimate: Estimate
    fit: Fit
    available: Sequence[Device]
    requested: int | None = None
    context_source: ContextSource = "requested"
    seen: Observation | None = None
    budget: int | None = None
    own_template: Path | None = None
    projector_problem: str | None = None
    recommended: Recommended = Recommended()
    capabilities: Capabilities = Capabilities()
    think: str | None = None
    think_note: str | None = None
    retained: Retained | None = None

    def as_seen(self, before: Observation) -> Self:
        """The plan with what an earlier start like this took."""
        fit = judged(self.fit, before.observed + self.estimate.kept, self.spec.context)
        return replace(self, fit=fit, seen=before)

    @property
    def trained_context(self) -> int | None:
        """Tokens that the model was trained for."""
        return self.metadata.context_length

    @property
    def is_base(self) -> bool:
        """Whether the model has no chat template of its own: it continues text."""
        return self.own_template is None and not self.metadata.has_chat_template

    @property
    def is_rounded(self) -> bool:
        """Whether the runtime runs a longer context than was asked for."""
        return self.requested is not None and self.spec.context != self.requested

    @property
    def knows_tools(self) -> bool:
        """Whether the chat template shows tools; a model without it gets none."""
        return self.capabilities.tools

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that lays out a conversation; None where the model has none."""
        given = self.spec.chat_template
        # outside: a template that a person names, or one of ours
        return given.read_text("utf-8", "replace") if given else self.metadata.chat_template

    @property
    def shortage(self) -> str | None:
        """A warning that it may not fit; None if it fits, or that is unknown."""
        if self.fit.verdict != "no":
            return None
        longest = self.fit.max_context
        advice = f"; --context {longest} would fit" if longest else ""
        return f"memory is short, this may fail or be slow{advice}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What else may go wrong, one sentence each."""
        trained = self.trained_context
        exceeds = trained is not None and 0 < trained < self.spec.context
        found = (
            self.projector_problem,
            RPC_WARNING if self.spec.rpc is not None else None,
            f"a context of {self.spec.context} exceeds the trained context of {trained}"
            if exceeds
            else None,
        )
        return tuple(filter(None, found))

    def line(self, needed_bytes: int | None = None) -> str:
        """One sentence: which model, whether and where it fits, and with which context.

        Args:
            needed_bytes: What it takes, where that is not what was estimated or seen.
        """
        quantization = (self.metadata.quantization or "").removeprefix("MOSTLY_")
        # many tags say it already
        named = quantization.lower() in self.name.lower()
        what = self.name if named else f"{self.name} {quantization}"
        kept = self.estimate.kept
        known = self.seen.observed + kept if self.seen else self.estimate.total
        needed = known if needed_bytes is None else needed_bytes
        rounded = "rounded up to " if self.is_rounded else ""
        context = f"context {rounded}{self.spec.context}"
        if self.trained_context and self.spec.context < self.trained_context:
            context += f" of {self.trained_context}"
        if self.context_source == "packaged":
            context += ", as packaged"
        keys, values = self.spec.cache_type_k, self.spec.cache_type_v
        if (keys, values) != (USUAL_CACHE, USUAL_CACHE):
            context += f", its cache {Load(1, keys, kv_type_v=values).cache_text}"
        verdict = fit_sentence(self.fit, needed, self._place(), measured=self.seen is not None)
        count = len(self.spec.adapters) + (self.spec.adapter is not None)
        adapter = "" if not count else f", {counted(count, 'adapter')} applied"
        prompts = shortened(self.retained, self.spec.context)
        return f"{what}: {verdict}; {context}{prompts}{adapter}, {self.spec.threads} threads"

    def _place(self) -> str | None:
        if self.budget is not None and self.fit.verdict != "no":
            return f"the {format_size(self.budget)} budget"
        has_gpu = any(device.kind == "gpu" for device in self.available)
        return memory_of(self.fit, Budget.of(self.available).together, has_gpu=has_gpu)


def shortened(kept: Retained | None, context: int) -> str:
    """Return what is said where earlier prompts are not kept whole; nothing where they are."""
    if kept is None or kept.holds is None or kept.holds >= context:
        return ""
    if not kept.holds:
        return ", earlier prompts not kept"
    return f", earlier prompts kept up to {kept.holds} tokens"


def line_for(runtime: Runtime, plan: LaunchPlan) -> str:
    """Return what is said before a start: whether the model fits, or which server has it.

    The memory of this machine says nothing of a server that is running already.
    """
    return external_line(runtime, plan.name) if runtime.external else plan.line()


def external_line(runtime: Runtime, name: str) -> str:
    """Return what is said of a model that a server has which is running already."""
    url = runtime.availability().detail
    return f"{name}: using the server at {url}; its memory and context are not known"


def plan_launch(
    store: Store, model: StoredModel, name: str, request: LaunchRequest, available: Sequence[Device]
) -> LaunchPlan:
    """Decides how to start a model.

    Args:
        store: Where it is.
        model: The model.
        name: What the user calls it.
        request: What the user asks for.
        available: The devices of this machine.

    Raises:
        CorruptStoreError: A blob is missing or damaged.
        MalformedGGUFError: The weights are not GGUF.
        UnsupportedArtifactError: It is not a model to chat with.
    """
    for blob in model.manifest.blobs:
        if model.is_stored and store.blobs.state(blob) != "good":
            raise missing(model, blob)
    found = headers.of_stored(model)
    metadata = found.metadata
    require_model(metadata, name)
    require_chat(purpose_of(metadata.values), name, metadata.architecture)
    request = decided(request, metadata, name)
    shape = with_adapters(found.shape, request)
    draft = draft_shape(request)
    requested = request.context
    default = default_context(shape.context or None, model.config.context_size)
    beside = _beside(found.projector_memory, draft, request.load(default.tokens))
    request = chosen(request, shape, available, beside, default)
    tokens = request.context or 1
    context = running_context(tokens, shape.context or None)
    load = request.load(context)
    artifact = model.artifact
    template = model.file(artifact.template)
    asked = request.sampling_parts or (("configured", request.sampling),)
    recommended = Recommended((*asked, *recommended_by(model, metadata).parts))
    capabilities = _capabilities(model, found, request.chat_template)
    request, think_note = with_thoughts(request, name, capabilities)
    spec = replace(request, sampling=recommended.values).spec(
        model.weights(),
        name,
        context,
        api_key=secrets.token_urlsafe(32),
        mmproj=None if found.projector_problem else model.file(artifact.projector),
        adapter=adapter_file(model),
        own_template=template,
    )
    needed = estimate(shape, load, projector=found.projector_memory)
    beside = _beside(found.projector_memory, draft, load)
    found_fit = fit(shape, load, available, projector=beside)
    spec = replace(spec, cpu_moe_layers=found_fit.cpu_moe_layers or spec.cpu_moe_layers)
    if found_fit.host_only:
        kept_off = request.chooses_devices
        spec = replace(spec, devices=(NO_DEVICE,)) if kept_off else replace(spec, gpu_layers=0)
    load = replace(load, cpu_moe_layers=spec.cpu_moe_layers or 0)
    needed = with_draft(needed, draft, load)
    kept = keeping(shape, load, spec, room_beside(found_fit, needed.total, available))
    return LaunchPlan(
        name,
        metadata,
        with_retained(spec, kept),
        load,
        needed,
        found_fit,
        available,
        requested,
        source_of(requested, tokens, default),
        own_template=template,
        projector_problem=found.projector_problem,
        recommended=recommended,
        capabilities=capabilities,
        think=request.think,
        think_note=think_note,
        retained=kept,
    )


def keeping(shape: ModelShape, load: Load, asked: RuntimeOptions, room: int | None) -> Retained:
    """Return what is kept beside a model: what was asked for, and else what there is room for."""
    prompts = None if asked.cache_ram is None else asked.cache_ram * MIB
    return retained(shape, load, room, prompts=prompts, checkpoints=asked.checkpoints)


def with_retained(spec: LaunchSpec, kept: Retained) -> LaunchSpec:
    """Return what the runtime gets, with the limits of what it keeps."""
    return replace(
        spec, planned_cache_ram=kept.prompts // MIB, planned_checkpoints=kept.checkpoints
    )


def with_thoughts(
    request: LaunchRequest, name: str, capabilities: Capabilities
) -> tuple[LaunchRequest, str | None]:
    """Return the request with what a runtime gets of thinking, and what to say of it."""
    if request.think is None:
        return request, None
    thinker = Thinker(name, capabilities.thinking, budgets=request.limits_thoughts)
    thought = thinker.ask(request.think)
    note = thought.note
    if thought.words is not None:
        note = f"{name} goes by the system prompt: add {thought.words} to it in each request"
    # trusted: our own, and what the settings have checked
    before = json.loads(request.template_arguments or "{}")
    arguments = {**thought.arguments, **before}
    changed = replace(
        request,
        template_arguments=json.dumps(arguments) if arguments else None,
        thinking_budget=thought.budget,
    )
    return changed, note


def _capabilities(
    model: StoredModel, found: headers.Headers, template: Path | None
) -> Capabilities:
    if template is None:
        return capabilities_of_one(model) or Capabilities()
    # outside: a template that a person names, or one of ours
    return capabilities_of_headers(found, template=template.read_text("utf-8", "replace"))


def _beside(projector: int | None, draft: ModelShape | None, load: Load) -> int | None:
    """Bytes of what is loaded beside a model, on a GPU where there is one."""
    if draft is None:
        return projector
    return (projector or 0) + draft_estimate(draft, load).total


def source_of(requested: int | None, tokens: int, default: DefaultContext) -> ContextSource:
    """Return what decided the number of tokens of a context."""
    if requested is not None:
        return "requested"
    return default.source if tokens >= default.tokens else "memory"


def chosen(
    request: LaunchRequest,
    shape: ModelShape,
    available: Sequence[Device],
    projector: int | None = None,
    default: DefaultContext | None = None,
    worth: int = SHORT_CONTEXT,
) -> LaunchRequest:
    """The request with a context, and a tighter cache where that makes a context worth while.

    Args:
        request: What the user asks for.
        shape: The model.
        available: The devices of this machine.
        projector: Bytes of the projector's file, where there is one.
        default: The context where memory allows it; None for that of the shape.
        worth: Tokens below which a tighter cache is worth what it costs.
    """
    if request.context is not None:
        return request
    most = (default or default_context(shape.context or None, None)).tokens

    def with_context(request: LaunchRequest) -> LaunchRequest:
        load = request.load(1)
        tokens = choose_context(shape, available, ceiling=most, load=load, projector=projector)
        return replace(request, context=tokens)

    usual = with_context(request)
    tight = tighter(request, shape) if (usual.context or 0) < min(worth, most) else None
    if tight is None:
        return usual
    tight = with_context(tight)
    return tight if (tight.context or 0) > (usual.context or 0) else usual


def tighter(request: LaunchRequest, shape: ModelShape) -> LaunchRequest | None:
    """The request with a tighter cache; None if a type was asked for, or the model has no such."""
    if request.kv_type is not None or request.kv_type_v is not None:
        return None
    tight = replace(request, kv_type=TIGHT_CACHE)
    return tight if takes(shape, tight.load(1)) else None


def adapter_file(model: StoredModel) -> Path | None:
    """The file of a model's adapter, if it has one."""
    return model.file(model.artifact.adapter)
