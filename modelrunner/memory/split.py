"""What each device holds of a model, as llama.cpp splits it between them."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from modelrunner.memory.estimate import without_compute
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.kv_cache import layer_cache_bytes, layer_state_bytes, own_draft_bytes
from modelrunner.memory.plan.load import Load
from modelrunner.memory.schedule import Placement, compute_by_device


class Share(NamedTuple):
    """What a device holds.

    Attributes:
        layers: Layers, the output matrix counting as one.
        resident: Bytes of weights, caches and states.
        compute: Bytes of its compute buffer.
        experts: Layers of other devices whose experts it has.
    """

    layers: int
    resident: int
    compute: int
    experts: int = 0

    @property
    def total(self) -> int:
        """All of its bytes."""
        return self.resident + self.compute


def placement(
    shape: ModelShape, free: Sequence[int], *, layers: int, experts: int, shares: Sequence[float]
) -> Placement:
    """The device of each layer, as `llama_model::load_tensors` of llama.cpp assigns them.

    Args:
        shape: The model.
        free: What each GPU has free; that decides about the split.
        layers: Layers on GPUs, the output matrix counting as one; they are the last ones.
        experts: Layers, from the first on, whose experts are in host memory.
        shares: The share of each GPU, where that was asked for.
    """
    gpus, count = len(free), len(shape.layers)
    # layers that guess ahead are counted like the others, and lie before the output matrix
    every = count + shape.extra_layers
    if layers > count:
        layers = every + 1
    weights = [*shares, *([0.0] * gpus)][:gpus] if any(shares) else [float(x) for x in free]
    points = [total / (sum(weights) or 1) for total in accumulate(weights)]
    first = every + 1 - layers

    def device(index: int) -> int:
        if index < first:
            return gpus
        return min(bisect_right(points, (index - first) / layers), gpus - 1)

    return Placement(gpus, (*(device(i) for i in range(count)), device(every)), experts)


def shares_of(
    shape: ModelShape,
    load: Load,
    placed: Placement,
    beside: int = 0,
    *,
    compute: Sequence[int] | None = None,
) -> list[Share]:
    """What each GPU, and at last the host, holds.

    Token embeddings stay in host memory; where they are the output matrix too, the GPU that has it
    holds a copy.

    Args:
        shape: The model.
        load: The use.
        placed: Where its layers are.
        beside: Bytes of what is loaded beside the model, on the first GPU where there is one.
        compute: Bytes of the compute buffers, where they are to be taken as known.
    """
    compute = compute_by_device(shape, load, placed) if compute is None else compute
    counts, resident = [0] * (placed.gpus + 1), [0] * (placed.gpus + 1)
    sizes, output = _weights(shape)
    for index, device in enumerate(placed.layers[:-1]):
        experts = shape.layers[index].experts if index < placed.expert_layers else 0
        counts[device] += 1
        resident[device] += (
            sizes[index]
            - experts
            + layer_cache_bytes(shape, load, index)
            + layer_state_bytes(shape, load, index)
        )
    last = placed.layers[-1]
    counts[last] += 1
    resident[last] += output
    if load.own_draft and last != placed.gpus:
        resident[last] += own_draft_bytes(shape, load) + shape.weights.ahead
    copied = output if last != placed.gpus and shape.weights.tied else 0
    on_gpus = sum(resident[:-1])
    resident[-1] = without_compute(shape, load) - on_gpus + copied
    resident[0 if placed.gpus and layers_on_gpus(placed) else -1] += beside
    shares = [Share(*found) for found in zip(counts, resident, compute, strict=True)]
    experts = sum(layer.experts > 0 for layer in shape.layers[: placed.expert_layers])
    return [*shares[:-1], shares[-1]._replace(experts=experts)]


def layers_on_gpus(placed: Placement) -> int:
    """Layers on GPUs, the output matrix counting as one."""
    return sum(device != placed.gpus for device in placed.layers)


def _weights(shape: ModelShape) -> tuple[list[int], int]:
    """Bytes of each layer's weights, and of those of the output."""
    weights = shape.weights
    sizes = [layer.weights for layer in shape.layers]
    if not any(sizes):
        # a configuration does not say where they lie
        each = weights.total // (len(sizes) + 1)
        return [each] * len(sizes), each
    rest = weights.total - weights.lookups - sum(sizes)
    return sizes, max(rest if weights.tied else rest - weights.embedding, 0)
