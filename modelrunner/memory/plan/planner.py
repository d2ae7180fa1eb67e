"""How much memory a computation graph needs: tensors, their lifetimes, and a planner like ggml's.

llama.cpp allocates one buffer for every intermediate value of a micro batch. Before the first token
it walks the graph in execution order, gives each tensor the smallest hole that holds it, and takes
it back when its last reader is done; an operation that may run in place reuses its input. The peak
of that walk is the compute buffer. A `Graph` records what the walk depends on - shapes, strides,
who reads whom - and `peak` walks it.
"""

from bisect import insort

ALIGNMENT = 32
"""Bytes to which ggml's CPU backend rounds a tensor's size."""

UNMARKED = -2
"""The layer of a value before it is noted which it belongs to."""

Shape = tuple[int, int, int, int]
_RANK = 4


class Tensor:
    """A value in the graph: an input, a result, or a view of either.

    `root` is the tensor whose memory a view shows; `outside` says that the memory is not the
    graph's: weights, caches. `layer` is the number of the layer that it belongs to, -1 before the
    first; `experts` says that it is a product with the weights of experts, `scaled` that it is a
    norm, which is multiplied with weights; `name` is that of the weights, where others have their
    shape too; `pinned` counts who reads it outside of the graph; `ordered` says that it has a place
    in the order of its graph.
    """

    __slots__ = (
        "children", "experts", "held", "in_place", "inputs", "layer", "name", "offset", "ordered",
        "outside", "pinned", "root", "scaled", "shape", "size", "strides", "views",
    )  # fmt: skip

    def __init__(
        self,
        shape: Shape,
        strides: Shape,
        inputs: tuple["Tensor", ...] = (),
        *,
        root: "Tensor | None" = None,
        in_place: bool = False,
        outside: bool = False,
    ) -> None:
        self.shape = shape
        self.strides = strides
        self.inputs = inputs
        self.root = root
        self.in_place = in_place
        self.outside = outside
        self.size = -(-strides[3] * shape[3] // ALIGNMENT) * ALIGNMENT
        self.children = self.views = self.offset = self.pinned = 0
        self.held = self.experts = self.ordered = self.scaled = False
        self.name = ""
        self.layer = UNMARKED


def _packed(shape: Shape, unit: int) -> Shape:
    """Strides of a contiguous tensor whose elements have `unit` bytes."""
    first, second, third, _ = shape
    row = unit * first
    plane = row * second
    return unit, row, plane, plane * third


def _shape(sizes: tuple[int, ...]) -> Shape:
    first, second, third, fourth = sizes if len(sizes) == _RANK else (*sizes, 1, 1, 1)[:_RANK]
    return first, second, third, fourth


OUTSIDE = Tensor((1, 1, 1, 1), (1, 1, 1, 1), outside=True)


class Graph:
    """Tensors in the order in which they will be computed."""

    def __init__(self) -> None:
        self.leaves: list[Tensor] = []
        self.nodes: list[Tensor] = []
        self._marked = 0

    # what values there are

    @staticmethod
    def leaf(*sizes: int, unit: int = 4) -> Tensor:
        """An input that is filled before the graph runs."""
        shape = _shape(sizes)
        return Tensor(shape, _packed(shape, unit))

    @staticmethod
    def new(sizes: tuple[int, ...], *inputs: Tensor, unit: int = 4) -> Tensor:
        """The result of an operation that needs memory of its own."""
        shape = _shape(sizes)
        return Tensor(shape, _packed(shape, unit), inputs)

    @staticmethod
    def same(tensor: Tensor, *others: Tensor) -> Tensor:
        """The result of an operation that may overwrite an input of the same layout."""
        unit = tensor.strides[0]
        return Tensor(tensor.shape, _packed(tensor.shape, unit), (tensor, *others), in_place=True)

    @staticmethod
    def norm(tensor: Tensor, *, in_place: bool = True) -> Tensor:
        """The norm of a tensor, multiplied with weights."""
        made = Graph.same(tensor) if in_place else Graph.new(tensor.shape, tensor)
        made.scaled = True
        return made

    @staticmethod
    def view(
        tensor: Tensor,
        sizes: tuple[int, ...],
        row: int | None = None,
        plane: int | None = None,
        whole: int | None = None,
    ) -> Tensor:
        """A window into `tensor`; strides of the dimensions after the first, if not packed."""
        shape, unit = _shape(sizes), tensor.strides[0]
        row = unit * shape[0] if row is None else row
        plane = row * shape[1] if plane is None else plane
        whole = plane * shape[2] if whole is None else whole
        return Tensor(shape, (unit, row, plane, whole), (tensor,), root=tensor.root or tensor)

    def reshape(self, tensor: Tensor, *sizes: int) -> Tensor:
        """The same bytes in another shape."""
        return self.view(tensor, sizes)

    @staticmethod
    def permute(tensor: Tensor, *axes: int) -> Tensor:
        """The same bytes with dimension `i` moved to `axes[i]`."""
        shape, strides = [1, 1, 1, 1], [1, 1, 1, 1]
        for i, axis in enumerate(axes):
            shape[axis], strides[axis] = tensor.shape[i], tensor.strides[i]
        return Tensor(
            _shape(tuple(shape)), _shape(tuple(strides)), (tensor,), root=tensor.root or tensor
        )

    @staticmethod
    def store(*inputs: Tensor) -> Tensor:
        """An operation that writes into memory outside of the graph, such as a cache."""
        return Tensor((1, 1, 1, 1), (1, 1, 1, 1), inputs, root=OUTSIDE)

    @staticmethod
    def pin(tensor: Tensor) -> None:
        """Keeps `tensor` until the end: it is read outside of the graph."""
        tensor.pinned += 1

    @staticmethod
    def routed(sizes: tuple[int, ...], *inputs: Tensor) -> Tensor:
        """The product with the weights of experts, by which ones were chosen."""
        made = Graph.new(sizes, *inputs)
        made.experts = True
        return made

    # the order in which they are computed

    def expand(self, tensor: Tensor) -> Tensor:
        """Puts `tensor`, after everything that it needs, at the end of the order."""
        if not tensor.ordered:
            self._visit(tensor)
        return tensor

    def _visit(self, tensor: Tensor) -> None:
        tensor.ordered = True
        for source in tensor.inputs:
            if not source.ordered:
                self._visit(source)
        (self.nodes if tensor.inputs else self.leaves).append(tensor)

    def mark(self, current: Tensor, layer: int) -> None:
        """Notes that everything since the last mark belongs to a layer, up to its result."""
        waiting = [current, *self.nodes[self._marked :]]
        self._marked = len(self.nodes)
        while waiting:
            tensor = waiting.pop()
            if tensor.layer == UNMARKED and tensor.inputs:
                tensor.layer = layer
                waiting += tensor.inputs

    def peak(self) -> int:
        """Bytes of the buffer that holds every tensor during its life. Plans once."""
        heap = Heap()
        for leaf in self.leaves:
            if not leaf.outside:
                heap.hold(leaf)
        for node in self.nodes:
            node.children += node.pinned
            if node.root is not None:
                node.root.views += 1
            for source in node.inputs:
                source.children += 1
        for node in self.nodes:
            if node.root is None and not (node.in_place and _takes_over(node)):
                heap.hold(node)
            for source in node.inputs:
                source.children -= 1
                if not source.children and not source.views:
                    _release(heap, source)
        return heap.peak


def _release(heap: "Heap", tensor: Tensor) -> None:
    """Nobody reads `tensor` any more: frees it, or what it was the last view of."""
    root = tensor.root
    if root is not None:
        root.views -= 1
        if root.views or root.children:
            return
        tensor = root
    if tensor.held:
        heap.free(tensor.offset, tensor.size)
        tensor.held = False


def _takes_over(node: Tensor) -> bool:
    """Lets `node` have the memory of an input that only it reads; the memory of a view stays."""
    for source in node.inputs:
        if (
            source.held
            and source.children == 1
            and not source.views
            and source.shape == node.shape
            and source.strides == node.strides
        ):
            source.held, node.held, node.offset = False, True, source.offset
            return True
    return False


class Heap:
    """Free blocks by offset; the smallest that holds is taken, the endless last one unless none."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, int]] = [(0, 1 << 62)]
        self.peak = 0

    def hold(self, tensor: Tensor) -> None:
        """Allocate a tensor."""
        tensor.offset, tensor.held = self.take(tensor.size), True

    def take(self, size: int) -> int:
        """Allocate `size` bytes and return their offset."""
        blocks = self._blocks
        best, best_room = 0, 1 << 63
        for i, (_, room) in enumerate(blocks):
            if size <= room <= best_room:
                best, best_room = i, room
        offset, room = blocks[best]
        if room == size:
            del blocks[best]
        else:
            blocks[best] = (offset + size, room - size)
        self.peak = max(self.peak, offset + size)
        return offset

    def free(self, offset: int, size: int) -> None:
        """Take back what was allocated."""
        blocks = self._blocks
        for i, (start, room) in enumerate(blocks):
            if start + room == offset:
                joined = room + size
                if i + 1 < len(blocks) and blocks[i + 1][0] == start + joined:
                    joined += blocks.pop(i + 1)[1]
                blocks[i] = (start, joined)
                return
            if offset + size == start:
                blocks[i] = (offset, size + room)
                return
        insort(blocks, (offset, size))
