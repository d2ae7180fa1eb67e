"""Gemma 3n's graph: four streams beside each other, and a small input of its own for each layer.

```
streams -> [predicted streams] -> active one -> [norm] -> attention, low-rank detour, + + ->
        -> [norm] -> feed-forward -> + -> [corrected streams] -> [with the layer's input mixed in]
```
Of four streams only one goes through a layer; the others are predicted before and corrected after.
"""

from modelrunner.memory.model.parts import Layer
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.batch import Batch
from modelrunner.memory.plan.blocks.attention import attend
from modelrunner.memory.plan.planner import Graph, Tensor

_STREAMS = 4
_OWN_INPUT = 256
_DETOUR = 64
_SPARSE_LAYERS = 10


def gemma3n_graph(graph: Graph, shape: ModelShape, batch: Batch) -> None:
    """Puts the whole model's graph in order."""
    wide, tokens = shape.embedding, batch.tokens
    current = graph.same(batch.given)
    own = own_inputs(graph, batch, current, _OWN_INPUT, len(shape.layers))
    length = _length(graph, current)
    others = graph.new((wide, tokens, _STREAMS - 1), current)
    others = graph.new((wide, tokens, _STREAMS - 1), others)
    current = graph.new((wide, tokens, _STREAMS), current, _with_length(graph, others, length))
    for i in range(len(shape.layers)):
        current = _layer(graph, shape, batch, i, current, own)
    length = _length(graph, _stream(graph, current))
    others = graph.new((wide, tokens, _STREAMS - 1), _others(graph, current))
    others = _with_length(graph, others, length)
    current = _stream(graph, current)
    for _ in range(_STREAMS - 1):
        current = graph.same(current, _stream(graph, others))
    picked = graph.same(graph.new((wide, batch.rows.shape[0]), current, batch.rows))
    graph.expand(graph.new((shape.vocabulary, batch.rows.shape[0]), picked))


def own_inputs(graph: Graph, batch: Batch, current: Tensor, width: int, layers: int) -> Tensor:
    """A small vector for each token and layer, looked up and projected."""
    tokens = batch.tokens
    found = graph.new((width * layers, tokens), graph.leaf(tokens))
    found = graph.expand(graph.same(graph.reshape(found, width, layers, tokens)))
    made = graph.new((width * layers, tokens), current)
    made = graph.same(graph.reshape(made, width, layers, tokens))
    mixed = graph.permute(graph.same(made, found), 0, 2, 1, 3)
    return graph.new((width, tokens, layers), mixed)


def _layer(
    graph: Graph, shape: ModelShape, batch: Batch, i: int, streams: Tensor, own: Tensor
) -> Tensor:
    wide, tokens = shape.embedding, batch.tokens
    predicted = _predicted(graph, streams)
    active = _stream(graph, predicted)
    normed = graph.same(active)
    detour = graph.new((wide, tokens), graph.new((_DETOUR, tokens), normed))
    detour = graph.same(graph.same(detour), normed)
    out = graph.same(attend(graph, shape, batch, i, normed))
    added = graph.same(graph.same(out, active), detour)
    forward = _forward(graph, shape, shape.layers[i], i, graph.same(added))
    corrected = _corrected(graph, predicted, graph.same(graph.same(forward), added))
    first = graph.new((_OWN_INPUT, tokens), graph.same(_stream(graph, corrected)))
    first = graph.same(graph.same(first), _stream(graph, own))
    first = graph.same(graph.new((wide, tokens), first))
    rest = graph.same(_others(graph, corrected), first)
    return graph.new((wide, tokens, _STREAMS), _stream(graph, corrected), rest)


def _predicted(graph: Graph, streams: Tensor) -> Tensor:
    wide, tokens, count, _ = streams.shape
    factors = graph.new((count * count, tokens), _routed(graph, _stream(graph, streams)))
    factors = graph.reshape(factors, count, count, tokens)
    turned = graph.new((count, wide, tokens), graph.permute(streams, 1, 2, 0, 3))
    mixed = graph.permute(graph.new((wide, count, tokens), turned, factors), 0, 2, 1, 3)
    return graph.same(graph.new((wide, tokens, count), mixed), streams)


def _corrected(graph: Graph, predicted: Tensor, active: Tensor) -> Tensor:
    tokens, count = predicted.shape[1], predicted.shape[2]
    change = graph.same(active, _stream(graph, predicted))
    factors = graph.same(graph.new((count, tokens), _routed(graph, active)))
    factors = graph.new((1, tokens, count), graph.permute(factors, 1, 0, 2, 3))
    changes = graph.new(predicted.shape, change)
    return graph.same(graph.same(changes, factors), predicted)


def _routed(graph: Graph, tensor: Tensor) -> Tensor:
    """How much each stream counts for a token."""
    return graph.same(graph.new((_STREAMS, tensor.shape[1]), graph.same(tensor)))


def _forward(graph: Graph, shape: ModelShape, layer: Layer, i: int, current: Tensor) -> Tensor:
    tokens, width = current.shape[1], layer.feed_forward
    up, gate = graph.new((width, tokens), current), graph.new((width, tokens), current)
    if i < _SPARSE_LAYERS:
        mean = graph.new((1, tokens), gate)
        spread = graph.new((1, tokens), graph.same(graph.same(gate, mean)))
        gate = graph.same(gate, graph.same(mean, graph.same(spread)))
    return graph.new((shape.embedding, tokens), graph.same(up, graph.same(gate)))


def _length(graph: Graph, tensor: Tensor) -> Tensor:
    """The length of each token's vector."""
    return graph.new((1, *tensor.shape[1:]), graph.same(tensor))


def _with_length(graph: Graph, tensor: Tensor, length: Tensor) -> Tensor:
    scaled = graph.same(tensor, length)
    return graph.same(scaled, _length(graph, tensor))


def _stream(graph: Graph, tensor: Tensor) -> Tensor:
    """One of the streams: they lie one after the other."""
    return graph.view(tensor, tensor.shape[:2], tensor.strides[1])


def _others(graph: Graph, tensor: Tensor) -> Tensor:
    """All streams but the first."""
    return graph.view(tensor, (*tensor.shape[:2], tensor.shape[2] - 1), *tensor.strides[1:3])
