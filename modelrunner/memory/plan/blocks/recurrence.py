"""Recurrences as operations of a graph: state spaces that keep a state instead of a cache.

```
input -> [projected] -> [joined with the last tokens] -> [convolved] -> [scanned with the state]
      -> gated by another part of the projection -> [projection back]
```
Mamba 2 gets everything from the first projection and works by head; the first Mamba projects the
convolved values once more to get its step sizes.
"""

from modelrunner.memory.model.parts import StateSpace
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.batch import Batch
from modelrunner.memory.plan.planner import Graph, Tensor


def recur(graph: Graph, shape: ModelShape, batch: Batch, current: Tensor) -> Tensor:
    """A recurrent layer, with the projection back."""
    space = shape.state_space
    if space is None:
        return current
    if shape.wiring.settled:
        graph.expand(current)
    mixed = _KINDS.get(space.kind, _second if space.groups and space.heads else _first)
    if mixed is _first and shape.wiring.state_norms:
        mixed = _first_normed
    out = mixed(graph, space, batch, current)
    out = graph.reshape(out, space.inner, batch.tokens)
    out = graph.new((shape.embedding, batch.tokens), out)
    return (
        out if space.kind in ("mamba", "kda") else graph.reshape(out, shape.embedding, batch.tokens)
    )


def _second(graph: Graph, space: StateSpace, batch: Batch, current: Tensor) -> Tensor:
    sequences, inner, heads = batch.load.parallel, space.inner, space.heads
    each, head, wide = batch.tokens // sequences, inner // heads, space.convolved
    by_head = (head, heads, each, sequences)
    conv = _last_tokens(graph, space, batch)
    made = graph.new((inner + wide + heads, batch.tokens), current)
    row = made.strides[1]
    made = graph.reshape(made, made.shape[0], each, sequences)
    gate = graph.view(made, by_head, 4 * head, row, row * each)
    mixed = graph.view(made, (wide, each, sequences), row, row * each)
    step = graph.view(made, (heads, each, sequences), row, row * each)
    mixed = _convolved(graph, space, conv, mixed)
    row = mixed.strides[1]
    given = graph.view(mixed, by_head, 4 * head, row, row * each)
    groups = (space.state, space.groups, each, sequences)
    turns = [graph.view(mixed, groups, 4 * space.state, row, row * each) for _ in range(2)]
    step = graph.same(graph.new((heads, each, sequences), step))
    scanned = _scanned(graph, space, batch, given, step, *turns)
    out = graph.view(scanned, by_head, 4 * head, 4 * inner, 4 * inner * each)
    out = graph.same(out, graph.same(given))
    out = graph.new(by_head, graph.new(by_head, gate), out)
    return graph.same(graph.reshape(out, inner // space.groups, space.groups, each, sequences))


def _first_normed(graph: Graph, space: StateSpace, batch: Batch, current: Tensor) -> Tensor:
    return _first(graph, space, batch, current, normed=True)


def _first(
    graph: Graph, space: StateSpace, batch: Batch, current: Tensor, *, normed: bool = False
) -> Tensor:
    sequences, inner, rank, state = batch.load.parallel, space.inner, space.heads, space.state
    each = batch.tokens // sequences
    whole = (inner, each, sequences)
    conv = _last_tokens(graph, space, batch)
    made = graph.new((2 * inner, each, sequences), current)
    mixed, gate = (graph.view(made, whole, *made.strides[1:3]) for _ in range(2))
    mixed = _convolved(graph, space, conv, mixed)
    more = graph.new((rank + 2 * state, each, sequences), mixed)
    step = graph.view(more, (rank, each, sequences), *more.strides[1:3])
    turns = [
        graph.view(more, (state, 1, each, sequences), 4 * state, *more.strides[1:3])
        for _ in range(2)
    ]
    step = graph.same(step) if normed else graph.new((rank, each, sequences), step)
    step = graph.same(graph.new(whole, step))
    turns = [graph.same(turn) for turn in turns] if normed else turns
    given = graph.reshape(mixed, 1, inner, each, sequences)
    scanned = _scanned(graph, space, batch, given, step, *turns)
    out = graph.view(scanned, whole, 4 * inner, 4 * inner * each)
    out = graph.same(out, graph.same(mixed))
    return graph.new(whole, graph.new(whole, gate), out)


def _last_tokens(graph: Graph, space: StateSpace, batch: Batch) -> Tensor:
    """What the convolution looks back at, for each sequence of the batch."""
    sequences = batch.load.parallel
    found = states_of(graph, batch, space.conv_state)
    return graph.reshape(found, max(space.conv - 1, 1), space.convolved, sequences)


def states_of(graph: Graph, batch: Batch, size: int) -> Tensor:
    """The states of the sequences of a batch."""
    sequences = batch.load.parallel
    found = graph.expand(graph.new((size, sequences), graph.view(batch.states, (sequences,))))
    _move_others(graph, batch, size)
    return found


def _move_others(graph: Graph, batch: Batch, size: int) -> None:
    """States of sequences that are not in the batch are moved: none, in the largest batch."""
    others = graph.expand(graph.new((size, 0), graph.view(batch.states, (0,))))
    graph.expand(graph.store(others))


def _convolved(graph: Graph, space: StateSpace, conv: Tensor, mixed: Tensor) -> Tensor:
    joined = _joined(graph, space, conv, mixed)
    return graph.same(graph.same(graph.new(mixed.shape[:3], joined)))


def _joined(graph: Graph, space: StateSpace, conv: Tensor, mixed: Tensor) -> Tensor:
    """The last tokens before a batch, and the batch."""
    wide, each, sequences, _ = mixed.shape
    back = max(space.conv - 1, 1)
    joined = graph.new((back + each, wide, sequences), conv, graph.permute(mixed, 1, 0, 2, 3))
    last = graph.view(joined, (back, wide, sequences), *joined.strides[1:3])
    graph.expand(graph.store(last))
    return joined


def _scanned(graph: Graph, space: StateSpace, batch: Batch, *inputs: Tensor) -> Tensor:
    """Outputs of all tokens, followed by the states after the last ones."""
    sequences = batch.load.parallel
    main = graph.view(batch.states, (sequences,))
    size = space.inner * batch.tokens + space.scan_state * sequences
    scanned = graph.expand(graph.new((size,), *inputs, main))
    _move_others(graph, batch, space.scan_state)
    graph.expand(graph.store(graph.view(scanned, (space.scan_state, sequences))))
    return scanned


def _short(graph: Graph, space: StateSpace, batch: Batch, current: Tensor) -> Tensor:
    """A short convolution between two gates."""
    sequences, inner = batch.load.parallel, space.inner
    each = batch.tokens // sequences
    whole = (inner, each, sequences)
    conv = _last_tokens(graph, space, batch)
    made = graph.new((3 * inner, each, sequences), current)
    first, second, third = (graph.view(made, whole, *made.strides[1:3]) for _ in range(3))
    joined = _joined(graph, space, conv, graph.same(first, second))
    return graph.same(third, graph.new(whole, joined))


def _delta(graph: Graph, space: StateSpace, batch: Batch, current: Tensor) -> Tensor:
    """A gated delta net: keys and queries by group, values, gates and states by head."""
    sequences, inner, heads, groups = batch.load.parallel, space.inner, space.heads, space.groups
    each, head = batch.tokens // sequences, inner // max(heads, 1)
    by_head, by_group = (head, heads, each, sequences), (space.state, groups, each, sequences)
    conv = _last_tokens(graph, space, batch)
    mixed = graph.reshape(
        graph.new((space.convolved, batch.tokens), current), space.convolved, each, sequences
    )
    joined = _joined(graph, space, conv, mixed)
    state = states_of(graph, batch, space.scan_state)
    mixed = graph.same(graph.new((space.convolved, each, sequences), joined))
    row = mixed.strides[1]
    query, key = (
        graph.same(graph.same(graph.view(mixed, by_group, 4 * space.state, row, row * each)))
        for _ in range(2)
    )
    value = graph.view(mixed, by_head, 4 * head, row, row * each)
    decay, strength = (
        graph.same(graph.reshape(graph.new((heads, batch.tokens), current), heads, each, sequences))
        for _ in range(2)
    )
    size = (inner, batch.tokens + space.state * sequences)
    made = graph.new(size, query, key, value, graph.same(decay), strength, state)
    graph.expand(graph.store(graph.view(made, (space.scan_state, sequences))))
    out = graph.same(graph.view(made, by_head, 4 * head, 4 * inner, 4 * inner * each))
    gate = graph.reshape(graph.new((inner, batch.tokens), current), *by_head)
    return graph.same(out, graph.same(gate))


def _kda(graph: Graph, space: StateSpace, batch: Batch, current: Tensor) -> Tensor:
    """Kimi's delta attention: queries, keys and values each go through a convolution."""
    sequences, inner, heads, head = batch.load.parallel, space.inner, space.heads, space.state
    tokens, each, by_head = batch.tokens, batch.tokens // sequences, (head, heads, batch.tokens)
    kept = graph.reshape(states_of(graph, batch, space.conv_state), space.conv - 1, 3 * inner)
    parts = []
    for _ in range(3):
        last = graph.view(kept, (space.conv - 1, inner, sequences), kept.strides[1])
        made = graph.reshape(graph.new((inner, tokens), current), inner, each, sequences)
        parts.append(_joined(graph, space, last, made))
    state = states_of(graph, batch, space.scan_state)
    turned = [
        graph.same(graph.reshape(graph.new((inner, each, sequences), part), inner, tokens))
        for part in parts
    ]
    query, key, value = (graph.reshape(part, *by_head) for part in turned)
    decay = graph.same(graph.new((inner, tokens), graph.new((head, tokens), current)))
    decay = graph.same(graph.reshape(decay, *by_head))
    strength = graph.same(graph.reshape(graph.new((heads, tokens), current), 1, heads, tokens))
    size = (inner, tokens + head * sequences)
    made = graph.new(size, graph.same(query), graph.same(key), value, decay, strength, state)
    graph.expand(graph.store(graph.view(made, (space.scan_state, sequences))))
    out = graph.new(by_head, graph.view(made, by_head, 4 * head, 4 * inner))
    out = graph.same(graph.reshape(out, *by_head))
    gate = graph.new((inner, tokens), graph.new((head, tokens), current))
    return graph.new((inner, tokens), graph.same(out, graph.same(graph.reshape(gate, *by_head))))


def _lightning(graph: Graph, space: StateSpace, batch: Batch, current: Tensor) -> Tensor:
    """Lightning attention: within the batch every token with every other, before it by a state."""
    sequences, inner, heads, head = batch.load.parallel, space.inner, space.heads, space.state
    each, tokens = batch.tokens // sequences, batch.tokens
    by_head, across = (head, heads, each, sequences), (head, each, heads, sequences)
    states_of(graph, batch, space.conv_state)
    state = states_of(graph, batch, space.scan_state)
    state = graph.reshape(state, head, head, heads, sequences)
    made = graph.same(graph.new((3 * inner, tokens), current))
    row = made.strides[1]
    query, key, value = (graph.view(made, by_head, 4 * head, row, row * each) for _ in range(3))
    earlier = graph.new(across, state, graph.permute(graph.same(query), 0, 2, 1, 3))
    turned = graph.new((each, head, heads, sequences), graph.permute(value, 1, 2, 0, 3))
    scores = graph.new((each, each, heads, sequences), key, query)
    scores = graph.same(scores, graph.same(batch.decays))
    mixed = graph.expand(graph.same(earlier, graph.new(across, turned, scores)))
    kept = graph.same(state)
    faded = graph.permute(graph.same(key), 1, 2, 0, 3)
    added = graph.new(state.shape, graph.new((each, head, heads, sequences), faded), turned)
    graph.expand(graph.store(graph.same(kept, added)))
    gate = graph.same(graph.new((inner, tokens), current))
    out = graph.new(by_head, graph.permute(mixed, 0, 2, 1, 3))
    return graph.same(gate, graph.same(graph.reshape(out, inner, tokens)))


_KINDS = {"lightning": _lightning, "kda": _kda, "short": _short, "delta": _delta}
