"""What a model in safetensors needs where vLLM runs it: its weights, and the KV cache of a use.

    bytes = weights + conversations x (layers x 2 x KV heads x head size x element x context
                                       + layers with a state x its size)

The context of a conversation is in blocks of 16 tokens. Layers with a window keep that much of it;
where keys and values are one vector (MLA), that is kept alone. Besides, vLLM takes memory for
activations and CUDA graphs, and gives the cache all that is left of its share of a GPU: what is
computed here is the least with which the use works. Sources: vLLM `vllm/v1/kv_cache_interface.py`
and `vllm/model_executor/layers/mamba/mamba_utils.py`, and its documentation, "Conserving Memory".
"""

from collections.abc import Sequence
from typing import NamedTuple

from modelrunner.errors import UsageError
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.estimate import Estimate
from modelrunner.memory.fit import Budget, Fit, Verdict, verdict_in
from modelrunner.memory.plan.load import Load, padded
from modelrunner.safetensors.config import TransformersConfig
from modelrunner.units import format_size

CACHE_TYPES = {"f16": 2, "bf16": 2, "f32": 4}
"""Bytes of an element of the cache, by its type."""

BESIDE = 2 * 1024**3
"""Bytes for activations and CUDA graphs in the upper bound; what vLLM reports is mostly below."""

_BLOCK = 16
_LONGEST = 1 << 24
_CACHE_OF = {"F32": "f32", "F64": "f32", "BF16": "bf16"}
_GPU_SHARE = "vLLM takes 90 % of a GPU unless --gpu-memory-utilization is set"


class ServedShape(NamedTuple):
    """A model as vLLM loads it.

    Attributes:
        weights: Bytes of its files.
        config: What its `config.json` says; None without one.
    """

    weights: int
    config: TransformersConfig | None

    @property
    def trained(self) -> int | None:
        """Tokens that it was trained for."""
        return None if self.config is None else self.config.context


def cache_type(
    config: TransformersConfig | None, asked: str | None, values: str | None = None
) -> str:
    """Return the type of the cache: that of the weights, unless another one is asked for.

    Args:
        config: The model.
        asked: What is asked for.
        values: What is asked for values, where that is another type.

    Raises:
        UsageError: vLLM has no such type, or none of values alone.
    """
    if values is not None and values != asked:
        raise UsageError(
            "vLLM keeps keys and values in one type: --kv-type-v is not available for it",
            hint="leave out --kv-type-v",
        )
    if asked is None:
        return _CACHE_OF.get((config.dtype if config else None) or "", "f16")
    if asked not in CACHE_TYPES:
        raise UsageError(
            f"KV cache type {asked} is not available for a model that vLLM runs",
            hint=f"use one of {', '.join(CACHE_TYPES)}, or leave it out",
        )
    return asked


def estimate_served(shape: ServedShape, load: Load) -> Estimate:
    """What vLLM needs for a model and a use."""
    least, most = _cache(shape, load, windows=True), _cache(shape, load, windows=False)
    notes = tuple(_notes(shape, load))
    if least is None or most is None:
        known = shape.weights
        return Estimate(known, None, None, None, None, None, known, None, "config", notes)
    states = None if shape.config is None else shape.config.states(CACHE_TYPES[load.kv_type])
    kept = None if states is None else states * load.parallel
    return Estimate(
        shape.weights,
        least,
        kept,
        None,
        None,
        None,
        shape.weights + least + (kept or 0),
        shape.weights + most + (kept or 0) + BESIDE,
        "config",
        notes,
    )


def fit_served(shape: ServedShape, load: Load, room: Sequence[Device] | int) -> Fit:
    """Whether that is available: on the GPUs, or on the host of a machine without one.

    Args:
        shape: The model.
        load: The use.
        room: The devices, or bytes that stand for all of them.
    """
    needed = estimate_served(shape, load)
    if isinstance(room, int):
        budget, together = room, room
    else:
        places = Budget.of(room)
        budget, together = places.gpu or places.host, places.together
    verdict: Verdict = verdict_in(needed, budget)
    if verdict == "no" and needed.high is not None and needed.high <= together:
        verdict = "partial"
    return Fit(verdict, None, longest(shape, load, budget), budget)


def longest(shape: ServedShape, load: Load, budget: int) -> int | None:
    """The longest context of one conversation that certainly fits, else that may; None if none."""
    most = shape.trained or _LONGEST
    for bound in ("high", "low"):
        low, high = 0, most // _BLOCK
        while low < high:
            middle = (low + high + 1) // 2
            needed = estimate_served(shape, _with_context(load, middle * _BLOCK))
            known = needed.high if bound == "high" else needed.low
            if known is None:
                return None
            low, high = (middle, high) if known <= budget else (low, middle - 1)
        if low:
            return low * _BLOCK
    return None


def _with_context(load: Load, tokens: int) -> Load:
    return Load(tokens * load.parallel, load.kv_type, load.parallel, load.micro_batch)


def _cache(shape: ServedShape, load: Load, *, windows: bool) -> int | None:
    if shape.config is None:
        return None
    elements = shape.config.cached(padded(load.each, _BLOCK), windows=windows)
    return None if elements is None else elements * CACHE_TYPES[load.kv_type] * load.parallel


def _notes(shape: ServedShape, load: Load) -> list[str]:
    config = shape.config
    if config is None:
        return ["config.json not found: only the weights are known"]
    if not config.is_known:
        return [f"{config.architecture or 'config.json'}: layers or heads not found"]
    beside = format_size(BESIDE)
    said = "for vLLM: weights and KV cache by config.json; activations and CUDA graphs are in the"
    notes = [f"{said} upper bound alone, with {beside}", _GPU_SHARE]
    if not config.generates:
        notes.append("encoder: no KV cache")
    if config.states(1) is None:
        notes.append("the states of recurrent layers are not counted")
    if config.context and load.each > config.context:
        notes.append(f"a context of {load.each} exceeds the trained context of {config.context}")
    return notes
