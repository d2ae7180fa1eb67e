"""Recurrences as operations of a graph: state spaces that keep a state instead of a cache."""

from modelrunner.memory.batch import Batch
from modelrunner.memory.planner import Graph, Tensor
from modelrunner.memory.shape import ModelShape


def recur(graph: Graph, shape: ModelShape, batch: Batch, current: Tensor) -> Tensor:
    """A Mamba layer of the second kind."""
    space = shape.state_space
    if space is None:
        return current
    tokens, sequences = batch.tokens, batch.load.sequences
    each, inner, wide = tokens // sequences, space.inner, space.convolved
    head, heads = inner // space.heads, space.heads
    main = graph.view(batch.states, (sequences,))
    extra = graph.view(batch.states, (0,))
    conv = graph.expand(graph.new((space.conv_state, sequences), main))
    graph.expand(graph.store(graph.expand(graph.new((space.conv_state, 0), extra))))
    conv = graph.reshape(conv, space.conv - 1, wide, sequences)
    made = graph.new((2 * inner + 2 * space.groups * space.state + heads, tokens), current)
    row = made.strides[1]
    made = graph.reshape(made, made.shape[0], each, sequences)
    through = graph.view(made, (head, heads, each, sequences), 4 * head, row, row * each)
    mixed = graph.view(made, (wide, each, sequences), row, row * each)
    step = graph.view(made, (heads, each, sequences), row, row * each)
    joined = graph.new(
        (space.conv - 1 + each, wide, sequences), conv, graph.permute(mixed, 1, 0, 2, 3)
    )
    last = graph.view(joined, (space.conv - 1, wide, sequences), *joined.strides[1:3])
    graph.expand(graph.store(last))
    mixed = graph.same(graph.same(graph.new((wide, each, sequences), joined)))
    row = mixed.strides[1]
    x = graph.view(mixed, (head, heads, each, sequences), 4 * head, row, row * each)
    b, c = (
        graph.view(
            mixed, (space.state, space.groups, each, sequences), 4 * space.state, row, row * each
        )
        for _ in range(2)
    )
    step = graph.same(graph.new((heads, each, sequences), step))
    scanned = graph.new((inner * tokens + space.scan_state * sequences,), x, step, b, c, main)
    graph.expand(scanned)
    graph.expand(graph.store(graph.expand(graph.new((space.scan_state, 0), extra))))
    graph.expand(graph.store(graph.view(scanned, (space.scan_state, sequences, 1))))
    y = graph.view(scanned, (head, heads, each, sequences), 4 * head, 4 * inner, 4 * inner * each)
    y = graph.same(y, graph.same(x))
    y = graph.new((head, heads, each, sequences), graph.new(through.shape, through), y)
    y = graph.same(graph.reshape(y, inner // space.groups, space.groups, each, sequences))
    return graph.new((shape.embedding, tokens), graph.reshape(y, inner, tokens))
