"""Does it fit, how much of it on the GPUs, and how long may the context be.

Verdicts go by the range of an estimate: what its upper bound fits into is certain to do, and what
only its lower bound fits into may do.
"""

from collections.abc import Callable, Sequence
from functools import cache
from math import inf
from typing import Literal, NamedTuple

from modelrunner.frozen import frozen, replace
from modelrunner.memory.context import DEFAULT_CEILING
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.estimate import Estimate, estimate
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import PADDING, Load
from modelrunner.memory.schedule import Placement
from modelrunner.memory.split import Share, layers_on_gpus, placement, shares_of

Verdict = Literal["fits", "maybe", "partial", "no", "unknown"]

GPU_RESERVE = 330 * 1024 * 1024
"""What a GPU's driver takes for itself before the first byte of a model: context and kernels.

Runtimes get the same figure as the margin of their own fit, so that what fits stays where it is.
"""

_FALLBACK_CONTEXT = 4096
_LONGEST = 1 << 24
_GUESSES = 8
"""Points of a line that are tried before halves are."""


class Held(NamedTuple):
    """What a device would hold.

    Attributes:
        name: The device.
        kind: Whether it is a GPU or the host.
        free_bytes: What it has free.
        need_bytes: What the model takes of it, without the reserve.
        layers: Layers on it, the output matrix counting as one.
    """

    name: str
    kind: Literal["gpu", "host"]
    free_bytes: int
    need_bytes: int
    layers: int


@frozen
class Fit:
    """Whether a model fits.

    Attributes:
        verdict: `fits` where all that it can need does, `maybe` where only the least does;
            `partial` where GPUs and host together hold it.
        gpu_layers: Layers for the GPU, the output matrix counting as one; None if not known.
        max_context: The longest context of one conversation with the same verdict and as many
            layers on the GPU; where the verdict is `no`, the longest that would fit at all. None
            if not known, or none.
        budget_bytes: What there is to use; None if that is not known.
        cpu_moe_layers: Layers, from the first on, whose experts are in host memory.
        devices: What each device holds; empty where bytes stand for all of them.
        host_only: Whether the GPUs have no room for even the buffers of a start that puts no layer
            there: the runtime has to leave them alone, and the host holds everything.
    """

    verdict: Verdict
    gpu_layers: int | None
    max_context: int | None
    budget_bytes: int | None
    cpu_moe_layers: int = 0
    devices: tuple[Held, ...] = ()
    host_only: bool = False


class Budget(NamedTuple):
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
        """What devices have free, less a reserve on each GPU."""
        gpus = [device for device in devices if device.kind == "gpu"]
        own = [max(x.free_bytes - reserve, 0) for x in gpus]
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


class _Bounds(NamedTuple):
    """The least and the most that is needed, as a factor of what is computed."""

    low: float
    high: float

    @classmethod
    def of(cls, needed: Estimate, computed: int) -> "_Bounds":
        most = needed.high if needed.high is not None else needed.total
        return cls(needed.low / max(computed, 1), most / max(computed, 1))


class _Place(NamedTuple):
    """A way to put a model into devices.

    Attributes:
        placed: Which device has what.
        shares: What each holds.
        low: Bytes that are left where it needs the least, where fewest are; negative for missing.
        high: Bytes that are left where it needs the most.
        gpus: The same of the GPUs, whatever the host has.
    """

    placed: Placement
    shares: Sequence[Share]
    low: float
    high: float
    gpus: float

    @property
    def gpu_layers(self) -> int:
        return layers_on_gpus(self.placed)


def fit(
    shape: ModelShape,
    load: Load,
    available: Sequence[Device] | int,
    *,
    reserve: int = GPU_RESERVE,
    projector: int | None = None,
    needed: Estimate | None = None,
) -> Fit:
    """Whether a model fits into devices, or into this many bytes.

    Args:
        shape: The model.
        load: The use.
        available: The devices that there are, or a number of bytes that stands for all of them.
        reserve: Bytes to leave free on each GPU.
        projector: Bytes of the projector's file, where one is used too.
        needed: What it needs, where that is known better than it can be computed.
    """
    if isinstance(available, int):
        return _fit_in_bytes(shape, load, available, projector, needed)
    budget = Budget.of(available, reserve=reserve)
    if not budget.gpus:
        found = _fit_in_bytes(shape, load, budget.host, projector, needed)
        if not shape.is_known or found.gpu_layers is None:
            return found
        total = (needed or estimate(shape, load, projector=projector)).total
        held = tuple(
            Held(x.name, x.kind, x.free_bytes, total, len(shape.layers) + 1) for x in available
        )
        return replace(found, gpu_layers=0, devices=held)
    if not shape.is_known:
        return Fit(_without_shape(shape, budget.together, needed), None, None, budget.together)
    return _Fitting(shape, load, available, budget, projector, needed).found()


_Way = tuple[int, int, int]
"""A context, layers on GPUs, and layers whose experts are in host memory."""


class _Fitting:
    """Looks for the best way to put a model into GPUs and the host."""

    def __init__(
        self,
        shape: ModelShape,
        load: Load,
        available: Sequence[Device],
        budget: Budget,
        projector: int | None,
        needed: Estimate | None,
    ) -> None:
        self._shape, self._load, self._budget = shape, load, budget
        self._projector, self._beside, self._needed = projector, projector or 0, needed
        self._devices = available
        self._free = [x.free_bytes for x in available if x.kind == "gpu"]
        self._full = len(shape.layers) + 1
        asked = load.gpu_layers
        self._wanted = self._full if asked is None else max(0, min(asked, self._full))
        computed = estimate(shape, load)
        self._bounds = _Bounds.of(needed or computed, computed.total)
        if needed is not None:
            self._beside = 0
        self._knows_host = budget.shared or any(x.kind == "host" for x in available)
        self.place = cache(self._place)

    def is_whole(self) -> bool:
        """Whether it certainly fits as it was asked for."""
        return self.place(self._load.context, self._wanted, self._load.cpu_moe_layers).high >= 0

    def found(self) -> Fit:
        """The verdict, with where everything goes."""
        load, wanted = self._load, self._wanted
        whole = self.place(load.context, wanted, load.cpu_moe_layers)
        verdict: Verdict
        if whole.low >= 0:
            certain = whole.high >= 0
            verdict, best = ("fits" if certain else "maybe"), whole

            def spare(each: int) -> float:
                longer = self.place(each * load.parallel, wanted, load.cpu_moe_layers)
                return longer.high if certain else longer.low
        else:
            some = self._partly(load.context)
            verdict, best = ("no", whole) if some is None else ("partial", some)
            layers, experts = best.gpu_layers, best.placed.expert_layers

            def spare(each: int) -> float:
                context = each * load.parallel
                if some is not None:
                    return self.place(context, layers, experts).high
                some_left = self.place(context, wanted, load.cpu_moe_layers).high
                return 0 if some_left < 0 and self._partly(context) else some_left

        if verdict == "no":
            alone = self._alone()
            if alone is not None:
                return alone
        longest = longest_context(self._shape, spare)
        together, gpu = self._budget.together, self._budget.gpu
        if verdict == "no":
            return Fit("no", 0, longest, together, devices=self._held(whole))
        everywhere = best.gpu_layers == self._full and not best.placed.expert_layers
        return Fit(
            verdict,
            best.gpu_layers,
            longest,
            gpu if everywhere else together,
            best.placed.expert_layers,
            self._held(best),
        )

    def _alone(self) -> Fit | None:
        """The verdict for the host without its GPUs; None where it does not hold the model."""
        chosen = self._load.gpu_layers or self._load.tensor_split or self._budget.shared
        if chosen or not self._knows_host or self.place(self._load.context, 0, 0).gpus >= 0:
            return None
        needed, host = self._needed, self._budget.host
        found = _fit_in_bytes(self._shape, self._load, host, self._projector, needed)
        if found.verdict != "fits":
            return None
        total = (needed or estimate(self._shape, self._load, projector=self._projector)).total
        held = tuple(
            Held(x.name, x.kind, x.free_bytes, 0, 0)
            if x.kind == "gpu"
            else Held(x.name, x.kind, x.free_bytes, total, self._full)
            for x in self._devices
        )
        return Fit(
            "partial", 0, found.max_context, self._budget.together, devices=held, host_only=True
        )

    def _partly(self, context: int) -> _Place | None:
        """The way that leaves most on the GPUs, with the rest in host memory; None if none holds.

        Where it is enough that experts go to the host, they do: few of them are computed for a
        token, and all attention stays on the GPUs.
        """
        if not self._knows_host:
            return None
        moe, count = self._load.cpu_moe_layers, len(self._shape.layers)
        routed = any(layer.experts for layer in self._shape.layers)
        if routed and self._wanted == self._full and self._load.movable_experts:
            experts = self._first(moe + 1, count, lambda n: (context, self._wanted, n))
            if experts is not None:
                found = self.place(context, self._wanted, experts)
                return found if found.high >= 0 else None
        fewer = self._first(1, self._wanted, lambda n: (context, self._wanted - n, moe))
        if fewer is None:
            return None
        found = self.place(context, self._wanted - fewer, moe)
        return found if found.high >= 0 else None

    def _first(self, low: int, high: int, way: Callable[[int], _Way]) -> int | None:
        """The first number whose way leaves enough on the GPUs; None if none does.

        Compute buffers take time to plan and hardly depend on it: with those of the last number,
        sums tell where to begin.
        """

        def holds(n: int) -> bool:
            return self.place(*way(n)).gpus >= 0

        if low > high or not holds(high):
            return None
        compute = [share.compute for share in self.place(*way(high)).shares]

        def seems(n: int) -> bool:
            return self._left(self._shares(way(n), compute), self._bounds.high) >= 0

        return _first_near(low, high, _first(low, high, seems) or high, holds)

    def _placed(self, way: _Way) -> Placement:
        _, layers, experts = way
        split = self._load.tensor_split
        return placement(self._shape, self._free, layers=layers, experts=experts, shares=split)

    def _shares(self, way: _Way, compute: Sequence[int] | None = None) -> Sequence[Share]:
        load = replace(self._load, context=way[0])
        return shares_of(self._shape, load, self._placed(way), self._beside, compute=compute)

    def _place(self, context: int, layers: int, experts: int) -> _Place:
        placed = self._placed((context, layers, experts))
        shares = self._shares((context, layers, experts))
        gpus = [self._left(shares, x) for x in (self._bounds.low, self._bounds.high)]
        hosts = [self._left_of_host(shares, x) for x in (self._bounds.low, self._bounds.high)]
        return _Place(placed, shares, min(gpus[0], hosts[0]), min(gpus[1], hosts[1]), gpus[1])

    def _left(self, shares: Sequence[Share], factor: float) -> float:
        rooms = self._budget.each
        return min(room - x.total * factor for x, room in zip(shares[:-1], rooms, strict=True))

    def _left_of_host(self, shares: Sequence[Share], factor: float) -> float:
        needs = [share.total * factor for share in shares]
        if self._budget.shared:
            return self._budget.together - sum(needs)
        on_gpus = sum(share.layers for share in shares[:-1])
        if on_gpus >= self._full and not shares[-1].experts:
            return inf  # what stays there are tables that are mapped
        return self._budget.host - needs[-1] if self._knows_host else inf

    def _held(self, place: _Place) -> tuple[Held, ...]:
        gpus, host = iter(place.shares[:-1]), place.shares[-1]
        found = []
        for x in self._devices:
            share = next(gpus) if x.kind == "gpu" else host
            found.append(Held(x.name, x.kind, x.free_bytes, share.total, share.layers))
        return tuple(found)


def _first_near(low: int, high: int, guess: int, holds: Callable[[int], bool]) -> int:
    """The first number for which `holds` holds, which it does for `high`, found from a guess on."""
    step = 1
    if holds(guess):
        high = guess
        while low < high and holds(max(high - step, low)):
            high, step = max(high - step, low), 2 * step
        low = max(high - step + 1, low)
    else:
        low = guess + 1
        while low < high and not holds(min(low + step - 1, high)):
            low, step = min(low + step, high), 2 * step
        high = min(low + step - 1, high)
    found = _first(low, high, holds)
    return high if found is None else found


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """The first number for which `holds` holds, as it does for all that follow; None if none."""
    if low > high or not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def fits_whole(
    shape: ModelShape,
    load: Load,
    available: Sequence[Device] | int,
    *,
    projector: int | None = None,
) -> bool:
    """Whether the verdict is `fits`; quicker than `fit`, which looks for other ways and contexts.

    Args:
        shape: The model.
        load: The use.
        available: The devices that there are, or a number of bytes that stands for all of them.
        projector: Bytes of the projector, where one is used too.
    """
    budget = None if isinstance(available, int) else Budget.of(available)
    if isinstance(available, int) or budget is None or not budget.gpus or not shape.is_known:
        return fit(shape, load, available, projector=projector).verdict == "fits"
    return _Fitting(shape, load, available, budget, projector, None).is_whole()


def _fit_in_bytes(
    shape: ModelShape,
    load: Load,
    budget: int,
    projector: int | None,
    needed: Estimate | None = None,
) -> Fit:
    if not shape.is_known:
        return Fit(_without_shape(shape, budget, needed), None, None, budget)
    computed = estimate(shape, load, projector=projector)
    bounds = _Bounds.of(needed or computed, computed.total)

    verdict = verdict_in(needed or computed, budget)

    def spare(each: int) -> float:
        longer = replace(load, context=each * load.parallel)
        found = estimate(shape, longer, projector=projector)
        if needed is not None:
            return budget - found.total * (bounds.low if verdict == "maybe" else bounds.high)
        if verdict == "maybe":  # by the estimate where that is in the budget, else by the least
            return budget - (found.total if computed.total <= budget else found.low)
        return budget - (found.high or found.total)

    longest = longest_context(shape, spare)
    return Fit(verdict, len(shape.layers) + 1 if verdict != "no" else 0, longest, budget)


def verdict_in(needed: Estimate, budget: int) -> Verdict:
    """Whether what is needed fits into this many bytes, by its bounds."""
    if needed.low > budget:
        return "no"
    if needed.high is None:
        return "unknown"
    return "fits" if needed.high <= budget else "maybe"


def _without_shape(shape: ModelShape, budget: int, needed: Estimate | None) -> Verdict:
    """Weights that do not fit are enough to know; weights that do are not."""
    if needed is not None:
        return verdict_in(needed, budget)
    return "no" if shape.weights.total > budget else "unknown"


def longest_context(shape: ModelShape, spare: Callable[[int], float]) -> int | None:
    """The longest context for which `spare` is not negative, a multiple of 256 up to the trained.

    Memory grows with the context, nearly in a straight line, but for a few bytes that holes between
    tensors make or save: the line says where to look next.

    Args:
        shape: The model.
        spare: Bytes that are left at a context of each conversation.
    """
    most = shape.context or _LONGEST
    if most <= PADDING:
        return most if spare(most) >= 0 else None
    low, high = 1, most // PADDING
    over = spare(high * PADDING)
    if over >= 0:
        return high * PADDING
    under = spare(PADDING)
    if under < 0:
        return None
    for attempt in range(high):
        if high - low <= 1:
            break
        steps = (high - low) * under / (under - over) if attempt < _GUESSES else (high - low) / 2
        middle = min(max(low + int(steps), low + 1), high - 1)
        found = spare(middle * PADDING)
        if found >= 0:
            low, under = middle, found
        else:
            high, over = middle, found
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
    if found.verdict == "maybe" and not shape.wiring.known:
        return most
    smallest = min(most * parallel, _FALLBACK_CONTEXT)
    short = replace(wanted, context=smallest)
    if fits_whole(shape, short, available, projector=projector):
        longest = fit(shape, short, available, projector=projector).max_context
    else:
        longest = found.max_context
    each = min(most, longest or max(1, smallest // parallel))
    # llama.cpp rounds it up, and for more there may be no room
    return each - each % PADDING if PADDING < each < most else each
