"""The compute buffer of each device, as llama.cpp's scheduler splits a graph between them.

The scheduler (`ggml_backend_sched_split_graph`) gives each operation to the device of its weights,
cuts the graph wherever that changes, and allocates a copy of what a piece reads from elsewhere at
the piece's start. A GPU computes a prompt for layers in host memory too: their weights and caches
are copied to it, one operation after the other.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

from modelrunner.frozen import replace
from modelrunner.memory.model.parts import Layer, Weights
from modelrunner.memory.model.repeats import kept, layer_kinds
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.graph import graph_of
from modelrunner.memory.plan.kv_cache import kinds_of, layer_state_bytes, planned, window_cells
from modelrunner.memory.plan.load import Load
from modelrunner.memory.plan.planner import OUTSIDE, Graph, Heap, Tensor

OFFLOADED_ROWS = 32
"""Rows from which on a GPU computes what has its weights in host memory."""

PIPELINE_COPIES = 4
"""Copies of what is read from elsewhere, where several GPUs work on several batches."""

_GPU_ALIGNMENT = 128
_HALF = 2
_FULL = 4


class Placement(NamedTuple):
    """Where the weights are.

    Attributes:
        gpus: How many there are; the host's number is this.
        layers: The device of each layer, and at last of the output matrix.
        expert_layers: Layers, from the first on, whose experts are in host memory.
    """

    gpus: int
    layers: tuple[int, ...]
    expert_layers: int = 0

    @property
    def copies(self) -> int:
        """Copies of what devices hand to each other."""
        everywhere = self.gpus > 1 and self.gpus not in self.layers and not self.expert_layers
        return PIPELINE_COPIES if everywhere else 1


def compute_by_device(shape: ModelShape, load: Load, placement: Placement) -> list[int]:
    """Return the bytes of the compute buffers: of each GPU, and at last of the host."""
    plain = replace(
        planned(shape, load),
        gpu_layers=None,
        cpu_moe_layers=0,
        tensor_split=(),
        prompt_cache=0,
        checkpoints=0,
    )
    return [*_peaks(*_shortened(shape, placement), plain)]


@lru_cache(maxsize=256)
def _peaks(shape: ModelShape, placement: Placement, load: Load) -> tuple[int, ...]:
    # placements that differ only in how many layers of a kind there are have one answer
    graph = graph_of(shape, load)
    walk = _Walk(placement, graph, _Sources(shape, load, placement))
    return tuple(walk.peaks())


def _shortened(shape: ModelShape, placement: Placement) -> tuple[ModelShape, Placement]:
    """The model and its placement without the middle of repetitions, which change no peak."""
    by_graph, by_weights, bare = layer_kinds(shape)
    keys, layers = [], []
    for i, device in enumerate(placement.layers[:-1]):
        apart = i < placement.expert_layers
        copied = apart or device == placement.gpus
        layers.append(shape.layers[i] if copied else bare[i])
        keys.append((by_weights[i] if copied else by_graph[i], device, apart))
    places = kept(keys)
    return (
        replace(shape, layers=tuple(layers[i] for i in places), weights=Weights(0)),
        placement._replace(
            layers=(*(placement.layers[i] for i in places), placement.layers[-1]),
            expert_layers=sum(i < placement.expert_layers for i in places),
        ),
    )


class _Sources:
    """What operations read of weights and caches, where that is copied to the device."""

    def __init__(self, shape: ModelShape, load: Load, placement: Placement) -> None:
        self._shape, self._load, self._placement = shape, load, placement
        self._stated: set[int] = set()
        self._matrices = [_by_shape(layer) for layer in shape.layers]

    def device(self, node: Tensor) -> int:
        """The device of an operation's result."""
        host, layers = self._placement.gpus, self._placement.layers
        if node.layer < 0:
            if not node.in_place and any(not source.inputs for source in node.inputs):
                return host
            return self._offloaded(layers[0], node)
        own = layers[min(node.layer, len(layers) - 1)]
        if node.root is OUTSIDE:
            return own
        if node.experts and node.layer < self._placement.expert_layers:
            own = host
        return self._offloaded(own, node)

    def _offloaded(self, own: int, node: Tensor) -> int:
        host = self._placement.gpus
        return 0 if own == host and host and prod(node.shape[1:]) >= OFFLOADED_ROWS else own

    def copied(self, node: Tensor, device: int) -> Iterator[int]:
        """Bytes of the weights and caches that `device` has to copy for an operation."""
        host, placement = self._placement.gpus, self._placement
        if device == host or not 0 <= node.layer < len(self._shape.layers):
            return
        layer = self._shape.layers[node.layer]
        if node.experts:
            if node.layer < placement.expert_layers or placement.layers[node.layer] == host:
                yield self._matrix(node)[0] or layer.largest_expert or layer.experts // 3
            return
        if _is_attention(node):
            if placement.layers[self._origin(node.layer)] != device:
                yield from self.caches(node)
            return
        if placement.layers[node.layer] != host:
            return
        if size := self._matrix(node)[0]:
            yield size
            if layer.state and node.layer not in self._stated:
                self._stated.add(node.layer)
                yield layer_state_bytes(self._shape, self._load, node.layer)

    def applied(self, node: Tensor, device: int) -> int:
        """Bytes of the bias of a product, or weights of a norm, that `device` has to copy."""
        layers, host = self._placement.layers, self._placement.gpus
        if device == host or not 0 <= node.layer < len(self._shape.layers):
            return 0
        apart = node.experts and node.layer < self._placement.expert_layers
        if layers[node.layer] != host and not apart:
            return 0
        return _FULL * node.shape[0] if node.scaled else self._matrix(node)[1]

    def _matrix(self, node: Tensor) -> tuple[int, int]:
        """Bytes of an operation's matrix and of its bias, as the file has them; 0 if unknown."""
        found = self._matrices[node.layer]
        if not found or node.in_place or node.root is not None or not node.inputs:
            return 0, 0
        width, wide = node.inputs[0].shape[0], node.shape[0]
        if node.experts:
            count = self._shape.experts.count if self._shape.experts else 0
            return found.get(("", width, wide, count), (0, 0))
        if len(node.inputs) > 1 or node.inputs[0].shape[1:] != node.shape[1:]:
            return 0, 0
        flat = (width, wide) if node.shape[2] == 1 else (width, wide, node.shape[2])
        return found.get((node.name, *flat)) or found.get(("", *flat), (0, 0))

    def _origin(self, number: int) -> int:
        """The layer whose cache a layer reads: its own, or that of the last one of its kind."""
        layers = self._shape.layers
        if not layers[number].reuses_cache:
            return number
        own = (
            i
            for i in reversed(range(number))
            if not layers[i].reuses_cache and layers[i].windowed == layers[number].windowed
        )
        return next(own, number)

    def caches(self, node: Tensor) -> Iterator[int]:
        """Bytes of keys and of values that an attention reads."""
        layer, load = self._shape.layers[self._origin(node.layer)], self._load
        cells = window_cells(self._shape, load) if layer.windowed else load.cells
        # latent attention reads its one cache as keys and as values, and each is copied
        widths = layer.cached[:1] * 2 if layer.latent else layer.cached[:2]
        for width, kind in zip(widths, kinds_of(layer, load), strict=False):
            yield load.cache_bytes(width, kind) * cells * load.streams

    def unpacked(self, node: Tensor) -> int:
        """Bytes of the copies in half precision that CUDA's attention makes of other caches."""
        if not 0 <= node.layer < len(self._shape.layers):
            return 0
        if not _is_attention(node) or self._load.tokens // self._load.streams <= _HALF:
            return 0
        layer, load = self._shape.layers[self._origin(node.layer)], self._load
        cells = window_cells(self._shape, load) if layer.windowed else load.cells
        widths = layer.cached[:2]
        if layer.latent:
            # values that lie in the keys are not unpacked again, those of a copy are
            copied = self._placement.layers[node.layer] == self._placement.gpus
            widths = (layer.cached[0], layer.latent.rank * copied)
        packed = zip(widths, kinds_of(layer, load), strict=False)
        return sum(
            _HALF * width * cells * load.streams
            for width, kind in packed
            if kind not in ("f16", "f32")
        )


def _by_shape(layer: Layer) -> dict[tuple[str | int, ...], tuple[int, int]]:
    """Bytes of a layer's matrices and of their biases: by name and shape, the largest by shape."""
    found: dict[tuple[str | int, ...], tuple[int, int]] = {}
    for name, shape, size, bias in layer.matrices:
        largest, longest = found.get(("", *shape), (0, 0))
        found["", *shape] = max(size, largest), max(bias, longest)
        found[name, *shape] = size, bias
    return found


def _is_attention(node: Tensor) -> bool:
    if node.in_place or node.root is not None:
        return False
    return any(not source.inputs and source.strides[0] == _HALF for source in node.inputs)


def _is_product(node: Tensor) -> bool:
    """Whether it is the product of a matrix and what is in the graph."""
    if node.in_place or node.root is not None or node.experts or not node.inputs:
        return False
    first = node.inputs[0]
    alone = len(node.inputs) == 1 and first.shape[1:] == node.shape[1:]
    return alone and node.shape[2:] == (1, 1) and not _is_attention(node)


def _is_norm(node: Tensor) -> bool:
    if len(node.inputs) != 1 or node.root is not None:
        return False
    return node.in_place or (node.shape == node.inputs[0].shape and not _is_product(node))


class _Walk:
    """Allocation in the order of execution, with a heap for each device."""

    def __init__(self, placement: Placement, graph: Graph, sources: _Sources) -> None:
        self._host, self._copies = placement.gpus, placement.copies
        self._graph, self._sources = graph, sources
        self._at: dict[int, int] = {}
        self._heaps = [Heap() for _ in range(placement.gpus + 1)]
        self._steps: list[tuple[Tensor, int, tuple[Tensor, ...]]] = []
        self._first: list[tuple[Tensor, int]] = []
        self._children: dict[int, int] = {}
        self._views: dict[int, int] = {}
        self._held: dict[int, tuple[int, int, int]] = {}

    def peaks(self) -> list[int]:
        """The peak of each heap."""
        for leaf in self._graph.leaves:
            self._at[id(leaf)] = self._host
        for node in self._graph.nodes:
            if node.root is None or node.root is OUTSIDE:
                self._at[id(node)] = self._sources.device(node)
        self._split()
        return self._allocate()

    def _where(self, tensor: Tensor) -> int:
        root = tensor.root
        return self._at[id(tensor if root is None or root is OUTSIDE else root)]

    def _split(self) -> None:
        """Puts copies before the pieces that need them."""
        copied: dict[tuple[int, int], Tensor] = {}
        piece: list[tuple[Tensor, int, tuple[Tensor, ...]]] = []
        before: list[tuple[Tensor, int, tuple[Tensor, ...]]] = []
        current = -1
        for node in self._graph.nodes:
            if node.root is not None and node.root is not OUTSIDE:
                piece.append((node, self._where(node), node.inputs))
                continue
            device = self._at[id(node)]
            inputs = node.inputs
            if device != current and self._host not in (device, current) and _is_norm(node):
                # only the multiplication by the norm's weights is on their device
                early = Tensor(node.shape, node.strides, inputs, in_place=node.in_place)
                self._at[id(early)] = current
                piece.append((early, current, inputs))
                inputs = (early,)
            outside = [_block(size) for size in self._sources.copied(node, device)]
            begins = bool(outside) and not _is_attention(node)  # for weights, and not for caches
            if device != current or (begins and before):
                self._steps += [*before, *piece]
                before, piece, current = [], [], device
            reads = list(outside)  # weights and caches are the first operands
            before += [(block, device, ()) for block in outside]
            if self._copies > 1:
                self._first += [(block, device) for block in outside]
            reads += [self._local(source, device, copied, before) for source in inputs]
            piece.append((node, device, tuple(reads)))
            if size := self._sources.applied(node, device):
                # they follow in place, and the copy of them begins a new piece
                self._steps += [*before, *piece]
                block = _block(size)
                before, piece = [(block, device, ())], [(Graph.store(block), device, (block,))]
        self._steps += [*before, *piece]

    def _local(
        self,
        source: Tensor,
        device: int,
        copied: dict[tuple[int, int], Tensor],
        before: list[tuple[Tensor, int, tuple[Tensor, ...]]],
    ) -> Tensor:
        """What a device reads of a value: itself, or a copy, made before the piece."""
        if source.outside or self._where(source) == device:
            return source
        key = id(source), device
        if key not in copied:
            copied[key] = _like(source)
            if self._copies > 1:
                self._first += [(copied[key], device)]
            before.append((copied[key], device, (source,)))
        return copied[key]

    def _allocate(self) -> list[int]:
        self._count()
        for node, device, reads in self._steps:
            if node.root is None and id(node) not in self._held and not self._takes(node, reads):
                self._hold(node, device)
            for source in reads:
                self._children[id(source)] -= 1
                if not self._children[id(source)] and not self._views.get(id(source)):
                    self._unread(source)
        return [heap.peak for heap in self._heaps]

    def _count(self) -> None:
        """Counts readers, and holds what is there before the first operation."""
        children, views = self._children, self._views
        kept = [(leaf, self._host) for leaf in self._graph.leaves if not leaf.outside]
        for tensor, device in [*self._first, *kept]:
            for _ in range(self._copies):
                self._hold(tensor, device)
            children[id(tensor)] = int(self._copies > 1)  # copies are never given back
        for node, _, reads in self._steps:
            children[id(node)] = children.get(id(node), 0) + node.pinned
            if node.root is not None:
                views[id(node.root)] = views.get(id(node.root), 0) + 1
            for source in reads:
                children[id(source)] = children.get(id(source), 0) + 1

    def _hold(self, tensor: Tensor, device: int) -> None:
        size = tensor.size
        if device != self._host:
            size += self._sources.unpacked(tensor)
            size = -(-size // _GPU_ALIGNMENT) * _GPU_ALIGNMENT
        self._held[id(tensor)] = device, self._heaps[device].take(size), size

    def _unread(self, tensor: Tensor) -> None:
        """Frees what nobody reads any more, or what it was the last view of."""
        root = tensor.root
        if root is not None:
            self._views[id(root)] -= 1
            if self._views[id(root)] or self._children.get(id(root)):
                return
            tensor = root
        found = self._held.pop(id(tensor), None)
        if found is not None:
            self._heaps[found[0]].free(found[1], found[2])

    def _takes(self, node: Tensor, reads: Sequence[Tensor]) -> bool:
        """Lets an operation that works in place have the memory of what only it reads."""
        for source in reads if node.in_place else ():
            if (
                id(source) in self._held
                and self._children[id(source)] == 1
                and not self._views.get(id(source))
                and source.shape == node.shape
                and source.strides == node.strides
            ):
                self._held[id(node)] = self._held.pop(id(source))
                return True
        return False


def _block(size: int) -> Tensor:
    return Tensor((size, 1, 1, 1), (1, size, size, size))


def _like(tensor: Tensor) -> Tensor:
    return Tensor(tensor.shape, tensor.strides)
