"""The computation graph of one micro batch, as llama.cpp builds it, for the planner.

A decoder layer, from top to bottom; `[..]` is a value that needs memory of its own:

```
input -> [norm] -> [q] -> [rope q]   [v]   [k] -> [rope k]   k, v -> cache
                   [attention over cache and mask] -> [projection] + input
      -> [norm] -> [up] [gate] -> [gated] -> [down] + that
```
"""

from functools import lru_cache

from modelrunner.frozen import replace
from modelrunner.memory.model.parts import Layer
from modelrunner.memory.model.repeats import shortened
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.batch import Batch
from modelrunner.memory.plan.blocks.attention import attend, attend_across
from modelrunner.memory.plan.blocks.feed_forward import feed_forward
from modelrunner.memory.plan.blocks.gemma3n import gemma3n_graph, own_inputs
from modelrunner.memory.plan.blocks.recurrence import recur
from modelrunner.memory.plan.blocks.rwkv import rwkv_layer
from modelrunner.memory.plan.kv_cache import planned
from modelrunner.memory.plan.load import Load
from modelrunner.memory.plan.planner import Graph, Tensor


def compute_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of the buffer for all intermediate values of a micro batch."""
    return _peak(shortened(shape), planned(shape, load))


@lru_cache(maxsize=64)
def _peak(shape: ModelShape, load: Load) -> int:
    # whoever asks whether it fits, and how much fits, asks for the same use several times
    return _graph(shape, load).peak()


@lru_cache(maxsize=8)
def graph_of(shape: ModelShape, load: Load) -> Graph:
    """The graph of a micro batch, to be walked through and not to be changed."""
    return _graph(shape, load)


def _graph(shape: ModelShape, load: Load) -> Graph:
    graph = Graph()
    batch = Batch.of(graph, shape, load)
    if shape.architecture == "gemma3n":
        gemma3n_graph(graph, shape, batch)
        return graph
    current = _entered(graph, shape, batch)
    own = None
    if width := shape.wiring.own_input:
        own = own_inputs(graph, batch, current, width, len(shape.layers))
    graph.mark(current, -1)
    layer = _late_norm_layer if shape.wiring.norms_after else _layer
    if shape.state_space and shape.state_space.kind == "rwkv":
        layer = rwkv_layer
    late = shape.wiring.late_rows
    for i in range(len(shape.layers)):
        last = i == len(shape.layers) - 1 and not (late or shape.wiring.all_rows)
        current = layer(graph, shape, batch, i, current, batch.rows if last else None)
        if own is not None:
            current = _with_own_input(graph, shape, current, own)
        if i < shape.wiring.pictures:
            wide = batch.given.strides[1]
            picture = graph.view(batch.given, (shape.embedding, batch.tokens), wide)
            current = graph.same(current, picture)
        graph.mark(current, i)
    if late:
        graph.pin(current)  # what a draft model would read
        current = _picked(graph, batch.rows, current)
    if not shape.wiring.norms_after:
        current = _normed(graph, shape, current)
    if not shape.wiring.encoder or shape.wiring.all_rows:
        current = graph.new((shape.vocabulary, current.shape[1]), current)
    graph.expand(current)
    graph.mark(current, len(shape.layers))
    return graph


def _entered(graph: Graph, shape: ModelShape, batch: Batch) -> Tensor:
    """What the first layer gets."""
    current = batch.given
    if shape.wiring.pictures:
        current = graph.view(current, (shape.embedding, batch.tokens), current.strides[1])
    graph.expand(current)
    if shape.wiring.learned_positions:
        places = graph.new((shape.embedding, batch.tokens), batch.positions)
        first, second = (places, current) if shape.wiring.norms_after else (current, places)
        current = graph.same(first, second)
    if shape.wiring.entry_norm or shape.wiring.norms_after:
        current = _normed(graph, shape, current)
    if shape.wiring.entry_kept:
        graph.pin(current)
    return current


def _layer(
    graph: Graph, shape: ModelShape, batch: Batch, i: int, current: Tensor, rows: Tensor | None
) -> Tensor:
    layer, wiring = shape.layers[i], shape.wiring
    normed = _normed(graph, shape, current) if wiring.attention_norm else current
    if wiring.residual_normed:
        current = normed
    if not layer.heads and not layer.recurrent:
        return _alone(graph, shape, layer, _picked(graph, rows, current))
    if wiring.both:
        out = graph.same(
            attend(graph, shape, batch, i, normed),
            recur(graph, shape, batch, _normed(graph, shape, current)),
        )
        added = graph.same(out, current)
        return _forward(graph, shape, layer, _picked(graph, rows, added))
    if layer.recurrent:
        out = recur(graph, shape, batch, normed)
    else:
        out = attend(graph, shape, batch, i, normed)
    if wiring.crossed:
        given = graph.same(out, current)
        out, current = attend_across(graph, shape, batch, i, _normed(graph, shape, given)), given
    out, given = _picked(graph, rows, out), _picked(graph, rows, current)
    if wiring.parallel != "no":
        return _beside(graph, shape, layer, out, given, _picked(graph, rows, normed))
    if wiring.dense_beside:
        return _dense_beside(graph, shape, layer, out, given)
    added = graph.same(given, out) if wiring.residual_first else graph.same(out, given)
    if not layer.feed_forward and not layer.routed:
        return added
    return _forward(graph, shape, layer, added, given if wiring.early_router else None)


def _with_own_input(graph: Graph, shape: ModelShape, current: Tensor, own: Tensor) -> Tensor:
    """What a layer gives, with its own input mixed in."""
    tokens, width = current.shape[1], shape.wiring.own_input
    gate = graph.same(graph.new((width, tokens), current))
    mixed = graph.same(gate, graph.view(own, (width, tokens), own.strides[1]))
    return graph.same(graph.same(current, graph.same(graph.new((shape.embedding, tokens), mixed))))


def _alone(graph: Graph, shape: ModelShape, layer: Layer, given: Tensor) -> Tensor:
    """A layer that has nothing but a feed-forward network."""
    return graph.same(feed_forward(graph, shape, layer, _normed(graph, shape, given)), given)


def _dense_beside(
    graph: Graph, shape: ModelShape, layer: Layer, out: Tensor, given: Tensor
) -> Tensor:
    """Experts on the layer's input, beside a dense network that follows attention."""
    wide = feed_forward(graph, shape, layer, _normed(graph, shape, given))
    dense = _forward(graph, shape, replace(layer, routed=False), graph.same(out, given))
    return graph.same(wide, dense)


def _late_norm_layer(
    graph: Graph, shape: ModelShape, batch: Batch, i: int, current: Tensor, rows: Tensor | None
) -> Tensor:
    out = attend(graph, shape, batch, i, current)
    out, current = _picked(graph, rows, out), _picked(graph, rows, current)
    normed = _normed(graph, shape, graph.same(out, current))
    wide = feed_forward(graph, shape, shape.layers[i], normed)
    return _normed(graph, shape, graph.same(wide, normed))


def _forward(
    graph: Graph, shape: ModelShape, layer: Layer, given: Tensor, router: Tensor | None = None
) -> Tensor:
    normed = _normed(graph, shape, given) if shape.wiring.feed_forward_norm else given
    wide = feed_forward(graph, shape, layer, normed, router)
    given = normed if shape.wiring.residual_normed else given
    return graph.same(given, wide) if shape.wiring.residual_first else graph.same(wide, given)


def _beside(
    graph: Graph, shape: ModelShape, layer: Layer, out: Tensor, given: Tensor, normed: Tensor
) -> Tensor:
    """The feed-forward network beside attention, whose result is `out`."""
    if shape.wiring.parallel == "last":
        return graph.same(graph.same(feed_forward(graph, shape, layer, normed), out), given)
    if shape.wiring.parallel == "own":
        normed = _normed(graph, shape, given)
    wide = feed_forward(graph, shape, layer, normed)
    if shape.wiring.parallel == "sum":
        return graph.same(wide, graph.same(out, given))
    if shape.wiring.parallel == "first":
        return graph.same(graph.same(out, wide), given)
    return graph.same(graph.same(wide, given), out)


def _normed(graph: Graph, shape: ModelShape, tensor: Tensor) -> Tensor:
    return graph.norm(tensor, in_place=not shape.wiring.layer_norm)


def _picked(graph: Graph, rows: Tensor | None, tensor: Tensor) -> Tensor:
    """Of all tokens the ones whose logits are wanted; all of them where `rows` is None."""
    return graph.new((tensor.shape[0], rows.shape[0]), tensor, rows) if rows else tensor
