"""What `estimate` is asked and what it answers: a use, and the memory that it takes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from modelrunner.frozen import frozen, replace
from modelrunner.memory.card_estimate import CARD_CONTEXT
from modelrunner.memory.context import ContextSource
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.estimate import Estimate, estimate
from modelrunner.memory.fit import Fit
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import PADDING, Load
from modelrunner.memory.retained import Retained, retained, room_beside
from modelrunner.operations.estimate.fit_sentence import fit_sentence, memory_of

if TYPE_CHECKING:
    from modelrunner.cards.card import Variant
    from modelrunner.oci.manifest import Manifest
    from modelrunner.oci.referrers import Referrer

AskedSource = Literal["auto", "measured", "header", "config", "card"]


class EstimateRequest(NamedTuple):
    """How the model would be used, and what the answer may rest on.

    Attributes:
        context: Tokens; None for as long as trained, fits and is usual.
        kv_type: What the cache is kept in; None for the artifact's, or else f16.
        kv_type_v: What its values are kept in, if that is another type.
        parallel: Conversations at the same time.
        micro_batch: Tokens that are computed at once.
        gpu_layers: Layers on the GPU; None for all that fit.
        budget: Bytes to fit into; None for those of the devices.
        source: What to ask; `auto` is the best that is at hand and quick.
        usual: Where there is no context: this one, shorter only where trained for less. Several
            models can be compared at it.
        packaged: Where there is no context: the one that the artifact's config sets, if it does.
    """

    context: int | None = None
    kv_type: str | None = None
    parallel: int = 1
    micro_batch: int = 512
    gpu_layers: int | None = None
    budget: int | None = None
    source: AskedSource = "auto"
    usual: int | None = None
    packaged: int | None = None
    kv_type_v: str | None = None


class Facts(NamedTuple):
    """What a model is called and is, as far as the source of an estimate says."""

    name: str
    quantization: str | None = None
    parameters: int | None = None
    variant: "Variant | None" = None
    manifest: "Manifest | None" = None
    referrers: "Sequence[Referrer] | None" = None
    """What refers to it, as far as it is in the local store; None for a model that is not."""


@frozen
class Report:
    """The answer, with everything that it rests on.

    Attributes:
        facts: Which model.
        load: The use.
        estimate: What it takes.
        fit: Whether that is available.
        devices: Where it would be put.
        trained: Tokens that the model was trained for.
        shape: What other uses can be computed from; None where only a card's row is known.
        projector: Bytes of the projector's file, where one is used too.
        seen: Whether the total is what a runtime reported when the model ran here.
        requested: The context that was asked for; None for the default one.
        context_source: What decided the context.
        budget: Bytes that stand for all devices, where they were asked for.
    """

    facts: Facts
    load: Load
    estimate: Estimate
    fit: Fit
    devices: Sequence[Device]
    trained: int | None
    shape: ModelShape | None = None
    projector: int | None = None
    seen: bool = False
    requested: int | None = None
    context_source: ContextSource = "requested"
    budget: int | None = None

    @property
    def name(self) -> str:
        """What people call the model."""
        return self.facts.name

    @property
    def context(self) -> int:
        """Tokens of one conversation."""
        return self.load.each

    @property
    def retained(self) -> Retained | None:
        """What a server keeps of earlier prompts beside that, at most; None where not known."""
        shape = self.shape
        if shape is None or not shape.is_known or shape.wiring.encoder:
            return None
        room = room_beside(self.fit, self.estimate.total, self.devices)
        return retained(shape, self.load, room)

    def line(self) -> str:
        """One sentence: how much, for what, and whether it fits."""
        has_gpu = any(device.kind == "gpu" for device in self.devices)
        place = memory_of(self.fit, None, has_gpu=has_gpu)
        said = fit_sentence(self.fit, self.estimate.total, place, measured=self.seen)
        parallel = self.load.parallel
        many = f" for each of {parallel} conversations" if parallel > 1 else ""
        return f"{self.name}: {said}; context {self.context}{many}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What else is to be said: of the estimate, and of the context that it is for."""
        more = []
        if self.requested is not None and self.requested < self.context:
            more.append(
                f"context rounded up to {self.context}: llama.cpp runs multiples of {PADDING}"
            )
        if self.context_source == "packaged":
            more.append(f"the artifact sets a context of {self.context}")
        return (*self.estimate.notes, *more)

    def at(self, context: int) -> tuple[Load, Estimate] | None:
        """The same use with another context of each conversation; None where that is unknown."""
        if self.shape is None or not self.shape.is_known:
            return None
        load = replace(self.load, context=context * self.load.parallel)
        return load, estimate(self.shape, load, projector=self.projector)

    def to_dict(self) -> dict[str, object]:
        """The answer as JSON has it."""
        found, card = self.estimate, self.facts.variant
        return {
            "reference": self.name,
            "source": found.source,
            "context": self.context,
            "parallel": self.load.parallel,
            "context_source": self.context_source,
            "kv_type": self.load.kv_type,
            "kv_type_v": self.load.kv_types[1],
            "bytes": {"total": found.total} if found.source == "card" else _parts(found),
            "low_bytes": found.low,
            "high_bytes": found.high,
            "card": None
            if card is None
            else {
                "vram_bytes": card.vram_bytes,
                "size_bytes": card.size_bytes,
                "context": CARD_CONTEXT,
            },
            "devices": [device_to_dict(device) for device in self.devices],
            "fit": {
                "verdict": self.fit.verdict,
                "gpu_layers": self.fit.gpu_layers,
                "cpu_moe_layers": self.fit.cpu_moe_layers,
                "max_context": self.fit.max_context,
                "budget_bytes": self.fit.budget_bytes,
                "devices": [held._asdict() for held in self.fit.devices],
            },
            "retained": None if (kept := self.retained) is None else _retained(kept),
            "trained_context": self.trained,
            "notes": list(self.notes),
            "referrers": None
            if self.facts.referrers is None
            else [referrer.facts() for referrer in self.facts.referrers],
        }


def device_to_dict(device: Device) -> dict[str, object]:
    """A device as an estimate's JSON has it."""
    return {
        "name": device.name,
        "kind": device.kind,
        "total_bytes": device.total_bytes,
        "free_bytes": device.free_bytes,
        "backend": device.backend,
    }


def _retained(kept: Retained) -> dict[str, int | None]:
    return {
        "prompt_bytes": kept.prompts,
        "checkpoint_bytes": kept.states,
        "checkpoints": kept.checkpoints,
        "prompt_tokens": kept.holds,
    }


def _parts(found: Estimate) -> dict[str, int | None]:
    return {
        "weights": found.weights,
        "kv_cache": found.kv_cache,
        "recurrent": found.recurrent,
        "compute": found.compute,
        "output": found.output,
        "projector": found.projector,
        "draft": found.draft,
        "kept": found.kept,
        "total": found.total,
    }
