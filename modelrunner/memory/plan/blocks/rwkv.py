"""RWKV's layers as operations of a graph: tokens mixed with earlier ones, then channels.

```
input -> [norm] -> [minus the token before] -> [five or six mixtures] -> [scanned with the state]
      -> [norm] gated -> [projection] + input -> [norm] -> channels mixed, or a feed-forward network
```
"""

from modelrunner.memory.model.parts import StateSpace
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.batch import Batch
from modelrunner.memory.plan.blocks.feed_forward import feed_forward
from modelrunner.memory.plan.blocks.recurrence import states_of
from modelrunner.memory.plan.planner import Graph, Tensor

_RANK = 96
"""Of the small matrices; it differs from model to model, and hardly matters."""


def rwkv_layer(
    graph: Graph, shape: ModelShape, batch: Batch, i: int, current: Tensor, rows: Tensor | None
) -> Tensor:
    """A layer of RWKV 6 or 7, or of such a one with the feed-forward network of Qwen 2."""
    space, tokens = shape.state_space, batch.tokens
    if space is None:
        return current
    shifts = states_of(graph, batch, space.conv_state)
    state = states_of(graph, batch, space.scan_state)
    sequences = batch.load.parallel
    given = graph.reshape(current, space.inner, tokens // sequences, sequences)
    normed = _normed(graph, shape, given)
    before = _before(graph, batch, space, shifts, normed)
    mix = _mix_seventh if shape.wiring.seventh else _mix_sixth
    out = mix(graph, space, batch, normed, graph.same(before, normed), state)
    out = graph.same(graph.reshape(out, *given.shape[:3]), given)
    if shape.wiring.channel_mix == "none":
        picked = _picked(graph, rows, graph.reshape(out, space.inner, tokens))
        wide = feed_forward(graph, shape, shape.layers[i], _normed(graph, shape, picked))
        return graph.same(wide, picked)
    lasts = [normed, _normed(graph, shape, out)]
    normed = lasts[1]
    lasts = [graph.view(x, (space.inner, 1, sequences), x.strides[1]) for x in lasts]
    graph.expand(graph.store(graph.new((space.inner, space.conv - 1, sequences), *lasts)))
    before = _before(graph, batch, space, shifts, normed)
    out, normed, before = (
        _picked(graph, rows, graph.reshape(x, space.inner, tokens)) for x in (out, normed, before)
    )
    return _channels(graph, shape, i, out, normed, before)


def _channels(
    graph: Graph, shape: ModelShape, i: int, given: Tensor, normed: Tensor, before: Tensor
) -> Tensor:
    """Channels mixed, behind a gate in RWKV 6."""
    change = graph.same(before, normed)
    size, width = (shape.embedding, given.shape[1]), shape.layers[i].feed_forward
    gate = None
    if shape.wiring.channel_mix == "gated":
        gate = graph.same(graph.new(size, graph.same(graph.same(change), normed)))
    wide = graph.same(graph.new((width, size[1]), graph.same(graph.same(change), normed)))
    out = graph.new(size, wide)
    return graph.same(graph.same(gate, out) if gate else out, given)


def _mix_seventh(
    graph: Graph, space: StateSpace, batch: Batch, normed: Tensor, change: Tensor, state: Tensor
) -> Tensor:
    inner, tokens, head = space.inner, batch.tokens, space.state
    heads = inner // head
    size, by_head = (inner, tokens), (head, heads, tokens)
    mixed = graph.same(graph.same(graph.new((inner, tokens, 1, 6), change)), normed)

    def part() -> Tensor:
        return graph.view(mixed, size, 4 * inner)

    def low_rank() -> Tensor:
        return graph.same(graph.new(size, graph.new((_RANK, tokens), part())))

    receptance = graph.new(size, part())
    decay = low_rank()
    key = graph.new(size, part())
    rate = low_rank()
    scaled = graph.same(key)
    longer = graph.same(key, graph.same(graph.same(rate, scaled), scaled))
    value = graph.new(size, part())
    if batch.chosen:  # the first layer's values
        value = graph.same(value, graph.same(graph.same(batch.chosen[0], value), low_rank()))
    else:
        batch.chosen.append(value)
    removed = graph.new(by_head, graph.reshape(graph.same(key), *by_head))
    inputs = (
        receptance, decay, graph.reshape(longer, *by_head), graph.reshape(value, *by_head),
        graph.same(removed), graph.same(removed, graph.reshape(rate, *by_head)), state,
    )  # fmt: skip
    out = _scanned(graph, space, batch, *inputs)
    bonus = graph.same(inputs[2], graph.reshape(receptance, *by_head))
    bonus = graph.new((1, heads, tokens), graph.same(bonus))
    out = graph.same(out, graph.reshape(graph.same(inputs[3], bonus), *size))
    gated = graph.same(out, graph.new(size, graph.same(graph.new((_RANK, tokens), part()))))
    return graph.new(size, gated)


def _mix_sixth(
    graph: Graph, space: StateSpace, batch: Batch, normed: Tensor, change: Tensor, state: Tensor
) -> Tensor:
    inner, tokens = space.inner, batch.tokens
    size = (inner, tokens)
    flat = graph.reshape(change, inner, 1, tokens)
    first = graph.same(graph.same(flat), graph.reshape(normed, inner, 1, tokens))
    low = graph.same(graph.new((5 * _RANK, tokens), first))
    low = graph.new((_RANK, 1, tokens, 5), low)
    mixed = graph.same(graph.new((inner, 1, tokens, 5), low), flat)
    mixed = graph.same(mixed, graph.reshape(normed, inner, 1, tokens))

    def part() -> Tensor:
        return graph.view(mixed, size, 4 * inner)

    key, value, receptance = (graph.new(size, part()) for _ in range(3))
    decay = graph.same(graph.new(size, graph.same(graph.new((_RANK, tokens), part()))))
    out = _scanned(graph, space, batch, key, value, receptance, decay, state)
    return graph.new(size, graph.same(out, graph.same(graph.new(size, part()))))


def _scanned(graph: Graph, space: StateSpace, batch: Batch, *inputs: Tensor) -> Tensor:
    """Outputs of all tokens, normalized by head; the states after the last ones are kept."""
    inner, tokens, head, sequences = space.inner, batch.tokens, space.state, batch.load.parallel
    made = graph.new((inner, tokens + head * sequences), *inputs)
    graph.expand(graph.store(graph.view(made, (space.scan_state, sequences))))
    by_head = (head, inner // head, tokens)
    out = graph.new(by_head, graph.view(made, by_head, 4 * head, 4 * inner))
    return graph.same(graph.reshape(out, inner, tokens))


def _before(
    graph: Graph, batch: Batch, space: StateSpace, shifts: Tensor, normed: Tensor
) -> Tensor:
    """The token before each token."""
    sequences = batch.load.parallel
    each = batch.tokens // sequences
    kept = graph.view(shifts, (space.inner, 1, sequences), shifts.strides[1], shifts.strides[1])
    seen = graph.view(normed, (space.inner, max(each - 1, 1), sequences), normed.strides[1])
    return graph.new((space.inner, each, sequences), kept, seen)


def _normed(graph: Graph, shape: ModelShape, tensor: Tensor) -> Tensor:
    if shape.wiring.layer_norm:
        return graph.new(tensor.shape, tensor)
    return graph.same(tensor)


def _picked(graph: Graph, rows: Tensor | None, tensor: Tensor) -> Tensor:
    return graph.new((tensor.shape[0], rows.shape[0]), tensor, rows) if rows else tensor
