"""Does it fit, how much of it on the GPU, and how long may the context be."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Literal

from modelrunner.memory.context import DEFAULT_CEILING
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.estimate import Estimate, estimate
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.kv_cache import layer_cache_bytes, layer_state_bytes
from modelrunner.memory.plan.load import PADDING, Load

Verdict = Literal["fits", "partial", "no", "unknown"]

GPU_RESERVE = 330 * 1024 * 1024
"""What a GPU's driver takes for itself before the first byte of a model: context and kernels."""

_FALLBACK_CONTEXT = 4096
_LONGEST = 1 << 24


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model fits.

    Attributes:
        verdict: `partial` where the GPU holds some layers and the host the rest.
        gpu_layers: Layers for the GPU, the output matrix counting as one; None if not known.
        max_context: The longest context of one conversation with as many layers on the GPU;
            where the verdict is `no`, the longest that would fit at all. None if not known, or
            none.
        budget_bytes: What there is to use; None if that is not known.
    """

    verdict: Verdict
    gpu_layers: int | None
    max_context: int | None
    budget_bytes: int | None


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that may be used, by place.

    Attributes:
        gpu: On all GPUs together.
        host: In host memory.
        gpus: How many GPUs there are.
        each: On each GPU, in the runtime's order.
        shared: Whether the GPU's bytes are the host's too.
    """

    gpu: int = 0
    host: int = 0
    gpus: int = 0
    shared: bool = False
    each: tuple[int, ...] = ()

    @classmethod
    def of(cls, devices: Sequence[Device], *, reserve: int = GPU_RESERVE) -> "Budget":
        """What devices have free, less a reserve on each GPU that is one of its own."""
        gpus = [device for device in devices if device.kind == "gpu"]
        own = [max(x.free_bytes - (0 if x.shared else reserve), 0) for x in gpus]
        return cls(
            gpu=sum(own),
            host=sum(x.free_bytes for x in devices if x.kind == "host"),
            gpus=len(gpus),
            shared=any(x.shared for x in gpus),
            each=tuple(own),
        )

    @property
    def together(self) -> int:
        """Bytes of all places, none counted twice."""
        return max(self.gpu, self.host) if self.shared else self.gpu + self.host


def fit(
    shape: ModelShape,
    load: Load,
    available: Sequence[Device] | int,
    *,
    reserve: int = GPU_RESERVE,
    projector: int | None = None,
) -> Fit:
    """Whether a model fits into devices, or into this many bytes.

    Args:
        shape: The model.
        load: The use.
        available: The devices that there are, or a number of bytes that stands for all of them.
        reserve: Bytes to leave free on each GPU.
        projector: Bytes of the projector's file, where one is used too.
    """
    if isinstance(available, int):
        return _fit_in_bytes(shape, load, available, projector)
    budget = Budget.of(available, reserve=reserve)
    if not budget.gpus:
        found = _fit_in_bytes(shape, load, budget.host, projector)
        return replace(found, gpu_layers=None if found.gpu_layers is None else 0)
    if not shape.is_known:
        return Fit(_without_shape(shape, budget.together), None, None, budget.together)
    full = len(shape.layers) + 1
    wanted = full if load.gpu_layers is None else min(load.gpu_layers, full)
    spare = projector or 0
    layers = _most_layers(shape, load, budget, wanted, spare)

    def holds(each: int) -> bool:
        longer = replace(load, context=each * load.parallel)
        most = _most_layers(shape, longer, budget, wanted, spare)
        return most is not None and most >= (layers or 0)

    longest = longest_context(shape, holds)
    if layers is None:
        return Fit("no", 0, longest, budget.together)
    verdict: Verdict = "fits" if layers == wanted else "partial"
    return Fit(verdict, layers, longest, budget.gpu if layers == full else budget.together)


def _fit_in_bytes(shape: ModelShape, load: Load, budget: int, projector: int | None) -> Fit:
    if not shape.is_known:
        return Fit(_without_shape(shape, budget), None, None, budget)

    def needed(context: int) -> int:
        return estimate(shape, replace(load, context=context), projector=projector).total

    longest = longest_context(shape, lambda each: needed(each * load.parallel) <= budget)
    verdict: Verdict = "fits" if needed(load.context) <= budget else "no"
    return Fit(verdict, len(shape.layers) + 1 if verdict == "fits" else 0, longest, budget)


def as_known(found: Fit, needed: Estimate, shape: ModelShape) -> Fit:
    """Return what can be said of fitting where some of the need is a guess.

    Args:
        found: The verdict as computed.
        needed: The estimate that it was computed from.
        shape: The model; where its architecture or a type of its tensors is unknown, the verdict
            is `no` where what is known does not fit, else `unknown`.
    """
    if shape.wiring.known and not shape.weights.unknown:
        return found
    over = found.budget_bytes is not None and needed.low > found.budget_bytes
    return replace(found, verdict="no" if over else "unknown")


def _without_shape(shape: ModelShape, budget: int) -> Verdict:
    """Weights that do not fit are enough to know; weights that do are not."""
    return "no" if shape.weights.total > budget else "unknown"


def longest_context(shape: ModelShape, holds: Callable[[int], bool]) -> int | None:
    """The longest context for which `holds` holds, a multiple of 256, never over the trained one.

    Memory grows with the context but for a few bytes that holes between tensors make or save: the
    bisection's answer is checked by `holds` itself.
    """
    most = shape.context or _LONGEST
    if most <= PADDING:
        return most if holds(most) else None
    low, high = 1, most // PADDING
    if holds(high * PADDING):
        return high * PADDING
    if not holds(PADDING):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle * PADDING):
            low = middle
        else:
            high = middle
    return low * PADDING


def choose_context(
    shape: ModelShape,
    available: Sequence[Device] | int,
    *,
    ceiling: int = DEFAULT_CEILING,
    load: Load | None = None,
    projector: int | None = None,
) -> int:
    """A context of one conversation to start with: as trained, as fits, up to the ceiling.

    One that leaves the whole model on the GPU is better than a longer one that does not. Where
    even a short one does not fit, it is that: the runtime will say what is missing.
    """
    parallel = load.parallel if load else 1
    most = min(shape.context or ceiling, ceiling)
    wanted = replace(load or Load(1), context=most * parallel)
    found = fit(shape, wanted, available, projector=projector)
    if found.verdict in ("fits", "unknown"):
        return most
    smallest = min(most * parallel, _FALLBACK_CONTEXT)
    least = fit(shape, replace(wanted, context=smallest), available, projector=projector)
    longest = least.max_context if least.verdict == "fits" else found.max_context
    each = min(most, longest or max(1, smallest // parallel))
    # llama.cpp rounds it up, and for more there may be no room
    return each - each % PADDING if PADDING < each < most else each


def placed(shape: ModelShape, load: Load, layers: int, needed: Estimate) -> tuple[int, int]:
    """Bytes on the GPU and in host memory with this many layers on the GPU.

    Layers go to the GPU from the last to the first, the output matrix before them all. Token
    embeddings stay with the host; where they are the output matrix too, the GPU has a copy.

    Args:
        shape: The model.
        load: The use.
        layers: Layers on the GPU, the output matrix counting as one.
        needed: The estimate for this model and use.
    """
    compute = needed.compute or 0
    resident = _resident(shape, load)[layers]
    copied = shape.weights.embedding if layers and shape.weights.tied else 0
    host = needed.total - compute - resident + copied
    everywhere = layers > len(shape.layers)
    return resident + (compute if layers else 0), host + (0 if everywhere else compute)


def _resident(shape: ModelShape, load: Load) -> list[int]:
    """Weights and caches on the GPU, by how many layers are there."""
    weights = shape.weights
    rest = weights.total - weights.lookups - sum(layer.weights for layer in shape.layers)
    sizes = [0, rest if weights.tied else rest - weights.embedding]
    for i in range(len(shape.layers) - 1, -1, -1):
        weights_here = shape.layers[i].weights
        if i < load.cpu_moe_layers:
            weights_here -= shape.layers[i].experts
        layer = weights_here + layer_state_bytes(shape, load, i)
        sizes.append(sizes[-1] + layer + layer_cache_bytes(shape, load, i))
    return sizes


def _most_layers(
    shape: ModelShape, load: Load, budget: Budget, wanted: int, spare: int
) -> int | None:
    """The most layers, up to `wanted`, that the GPUs hold with the host holding the rest."""
    needed = estimate(shape, load)
    compute, full = needed.compute or 0, len(shape.layers) + 1
    resident = _resident(shape, load)
    for layers in range(wanted, -1, -1):
        on_gpu = resident[layers] + spare + compute * budget.gpus if layers else 0
        if on_gpu > budget.gpu or not _spread(
            resident[: layers + 1], budget, compute, spare, load.tensor_split
        ):
            continue
        gpu, host = placed(shape, load, layers, needed)
        if not layers:
            host += spare
        room = budget.together - gpu if budget.shared else budget.host
        return layers if layers == full or host <= room else None
    return None


def _spread(
    resident: Sequence[int], budget: Budget, compute: int, spare: int, shares: Sequence[float]
) -> bool:
    """Whether several GPUs hold the layers, each a run of neighbors, as llama.cpp splits them.

    The first GPU gets the first of the layers and what is loaded beside the model, the last one the
    output matrix. Each has a compute buffer of its own.

    Args:
        resident: Bytes by how many layers are on GPUs, those from the output matrix on.
        budget: What each GPU has.
        compute: Bytes of the compute buffer.
        spare: Bytes of what is loaded beside the model.
        shares: What each GPU gets, where that was asked for; llama.cpp changes nothing then.
    """
    if len(budget.each) < 2:  # noqa: PLR2004 - one GPU, or none
        return True
    # from the first layer to the output matrix
    sizes = [after - before for before, after in pairwise(resident)][::-1]
    rooms = [room - compute - (0 if i else spare) for i, room in enumerate(budget.each)]
    if any(shares):
        held = split_bytes(sizes, [*shares, *([0.0] * (len(rooms) - len(shares)))])
        return all(size <= room or not size for size, room in zip(held, rooms, strict=True))
    at = 0
    for room in rooms:
        left = room
        while at < len(sizes) and sizes[at] <= left:
            left -= sizes[at]
            at += 1
    return at == len(sizes)


def split_bytes(sizes: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Return the bytes that each GPU gets of layers, the output matrix last, by shares.

    `llama_model::load_tensors` of llama.cpp decides so, in numbers of layers.
    """
    points = [total / sum(shares) for total in accumulate(shares)]
    held = [0] * len(shares)
    for index, size in enumerate(sizes):
        held[min(bisect_right(points, index / len(sizes)), len(shares) - 1)] += size
    return held
