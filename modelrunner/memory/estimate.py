"""How much memory a model needs for a use, where each byte goes, and what the answer rests on."""

from typing import Literal

from modelrunner.frozen import frozen, replace
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.graph import compute_bytes
from modelrunner.memory.plan.kv_cache import (
    check_cache,
    checkpoint_bytes,
    kv_cache_bytes,
    own_draft_bytes,
    recurrent_bytes,
)
from modelrunner.memory.plan.load import Load
from modelrunner.units import format_size

Source = Literal["measured", "header", "config", "card"]

_LOGIT_BYTES = 4
_MARGIN: dict[str, tuple[float, float]] = {"header": (0.99, 1.01), "config": (0.92, 1.08)}
"""How far the plan of llama.cpp was from the estimate, at most, with some room."""

_GUESSED_COMPUTE = 3
_GUESSED_CACHE = 1.5


@frozen
class Estimate:
    """Bytes by purpose; None for what is not known, which is not the same as 0.

    Attributes:
        weights: The tensors, as they lie in the file.
        kv_cache: Keys and values of the context.
        recurrent: States of recurrent layers.
        compute: Intermediate values of a micro batch.
        output: Logits, in host memory.
        projector: The part that turns images or sound into vectors.
        draft: What guesses tokens ahead: another model, or the cache of this one's own layers.
        kept: Prompts and states of earlier requests, in host memory, as far as asked for.
        low: What it will hardly be less than.
        high: What it will hardly be more than; None where nothing bounds it.
        source: What the answer rests on.
        notes: Sentences that a reader of the numbers should know.
        whole: The total where the parts are not known: a card says no more.
    """

    weights: int | None
    kv_cache: int | None
    recurrent: int | None
    compute: int | None
    output: int | None
    projector: int | None
    low: int
    high: int | None
    source: Source
    notes: tuple[str, ...] = ()
    whole: int | None = None
    draft: int = 0
    kept: int = 0

    @property
    def total(self) -> int:
        """The sum of what is known; complete where `is_complete`."""
        if self.whole is not None:
            return self.whole
        parts = (self.weights, self.kv_cache, self.recurrent, self.compute, self.output)
        return sum(part or 0 for part in (*parts, self.projector)) + self.draft + self.kept

    @property
    def is_complete(self) -> bool:
        """Whether every part is known, so that the total means something."""
        return None not in (self.weights, self.kv_cache, self.recurrent, self.compute)


def estimate(shape: ModelShape, load: Load, *, projector: int | None = None) -> Estimate:
    """What llama.cpp will allocate for a model and a use.

    Args:
        shape: The model.
        load: The use.
        projector: Bytes of the projector's file, where one is used too.

    Raises:
        CacheTypeError: llama.cpp does not have the types of the cache for this model.
    """
    check_cache(shape, load)
    notes = tuple(_notes(shape, load))
    weights = shape.weights.total + (shape.weights.ahead if load.own_draft else 0)
    source: Source = shape.source
    known = weights + (projector or 0)
    if not shape.is_known:
        return Estimate(weights, None, None, None, None, projector, known, None, source, notes)
    kv_cache, recurrent = kv_cache_bytes(shape, load), recurrent_bytes(shape, load)
    compute = compute_bytes(shape, load)
    output = _LOGIT_BYTES * shape.vocabulary * load.parallel
    draft = own_draft_bytes(shape, load)
    kept = load.prompt_cache + checkpoint_bytes(shape, load)
    total = known + kv_cache + recurrent + compute + output + draft + kept
    below, above = _MARGIN.get(source, _MARGIN["config"])
    if shape.wiring.known and not shape.weights.unknown:
        missing = 0 if shape.wiring.exact else compute
        low = max(known, int(total * below) - missing // 2)
        high = int(total * above) + _GUESSED_COMPUTE * missing
    else:
        low = known
        cache = _possible_cache(shape, load)
        high = total - kv_cache + int(_GUESSED_CACHE * cache) + (_GUESSED_COMPUTE - 1) * compute
    return Estimate(
        weights,
        kv_cache,
        recurrent,
        compute,
        output,
        projector,
        low,
        high,
        source,
        notes,
        draft=draft,
        kept=kept,
    )


def without_compute(shape: ModelShape, load: Load) -> int:
    """Bytes of all but the compute buffer, which a device has of its own."""
    return (
        shape.weights.total
        + (shape.weights.ahead if load.own_draft else 0)
        + kv_cache_bytes(shape, load)
        + recurrent_bytes(shape, load)
        + _LOGIT_BYTES * shape.vocabulary * load.parallel
        + own_draft_bytes(shape, load)
        + load.prompt_cache
        + checkpoint_bytes(shape, load)
    )


def _possible_cache(shape: ModelShape, load: Load) -> int:
    """Bytes of the cache that there may be: of windows that nothing lists, and of encoders."""
    if shape.wiring.cached:
        return kv_cache_bytes(shape, replace(load, swa_full=True))
    layers = [layer for layer in shape.layers if layer.heads]
    keys, values = load.kv_types
    row = load.cache_bytes(sum(x.kv_heads * x.key_size for x in layers), keys)
    row += load.cache_bytes(sum(x.kv_heads * x.value_size for x in layers), values)
    return load.cells * load.streams * row


def _notes(shape: ModelShape, load: Load) -> list[str]:
    notes = []
    name = shape.architecture or "an unnamed architecture"
    if not shape.is_known:
        notes.append(f"{name}: only the weights are known, the shape is missing")
    elif not shape.wiring.known:
        notes.append(f"unknown architecture {name}: computed from its keys and tensors")
    elif not shape.wiring.exact:
        notes.append(f"{name}: the compute buffer is an approximation")
    if shape.weights.unknown:
        notes.append(f"{shape.weights.unknown} tensors of unknown types are not counted")
    return [*notes, *certain_notes(shape, load)]


def certain_notes(shape: ModelShape, load: Load) -> tuple[str, ...]:
    """Notes on a use that hold for every source of its figures."""
    notes = []
    if shape.weights.adapter:
        notes.append(f"weights include an adapter (LoRA) of {format_size(shape.weights.adapter)}")
    if shape.context and load.each > shape.context:
        notes.append(f"a context of {load.each} exceeds the trained context of {shape.context}")
    if shape.wiring.encoder:
        notes.append("encoder: no KV cache, memory depends on the batch only")
    return tuple(notes)
