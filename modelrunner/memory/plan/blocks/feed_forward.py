"""Feed-forward networks as operations of a graph: dense ones and mixtures of experts."""

from modelrunner.memory.model.parts import Experts, Layer
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.model.wiring import Gate
from modelrunner.memory.plan.planner import Graph, Tensor


def feed_forward(
    graph: Graph, shape: ModelShape, layer: Layer, current: Tensor, router: Tensor | None = None
) -> Tensor:
    """The feed-forward network of a layer: dense, or a mixture of experts.

    Args:
        graph: Where its operations go.
        shape: The model.
        layer: The layer.
        current: What it reads.
        router: What experts are chosen by, if that is something else.
    """
    if not layer.routed or shape.experts is None:
        return _dense(graph, shape, shape.wiring.gate, layer.feed_forward, current)
    experts = shape.experts
    out = _routed(graph, shape, experts, current, router or current)
    if not experts.shared_feed_forward:
        return out
    gated: Gate = shape.wiring.shared_expert_gate
    shared = _dense(graph, shape, gated, experts.shared_feed_forward, current)
    if shape.wiring.shared_gate:
        gate = graph.new((1, current.shape[1]), current)
        shared = graph.same(shared, graph.same(graph.same(gate), gate))
    return graph.same(out, shared)


def _dense(graph: Graph, shape: ModelShape, gated: Gate, width: int, current: Tensor) -> Tensor:
    tokens = current.shape[1]
    if gated == "separate":
        up, gate = graph.new((width, tokens), current), graph.new((width, tokens), current)
        wide = graph.new((width, tokens), gate, up)
    elif gated == "fused":
        wide = graph.new((width, tokens), graph.new((2 * width, tokens), current))
    else:
        wide = graph.same(graph.new((width, tokens), current))
    if shape.wiring.inner_norms:
        wide = graph.norm(wide)
    return graph.new((shape.embedding, tokens), wide)


def _routed(
    graph: Graph, shape: ModelShape, experts: Experts, current: Tensor, router: Tensor
) -> Tensor:
    wiring, tokens, used = shape.wiring, current.shape[1], experts.used
    scores = graph.new((experts.count, tokens), router)
    if wiring.gating != "chosen":
        scores = graph.same(scores)
    ranked = _grouped(graph, experts, graph.same(scores) if wiring.scored_bias else scores)
    order = graph.new((experts.count, tokens), ranked)
    chosen = graph.view(order, (used, tokens), order.strides[1])
    weights = graph.new((1, used, tokens), graph.reshape(scores, 1, experts.count, tokens), chosen)
    if wiring.gating == "chosen":
        weights = graph.same(graph.reshape(weights, used, tokens))
        weights = graph.reshape(weights, 1, used, tokens)
    if wiring.normalized:
        flat = graph.reshape(weights, used, tokens)
        total = graph.same(graph.new((1, tokens), flat))
        weights = graph.reshape(graph.same(flat, total), 1, used, tokens)
    graph.expand(weights)
    current = graph.reshape(current, shape.embedding, 1, tokens)
    width = (experts.feed_forward, used, tokens)
    if wiring.expert_gate == "separate":
        up, gate = graph.routed(width, current, chosen), graph.routed(width, current, chosen)
        wide = graph.new(width, gate, up)
    elif wiring.expert_gate == "fused":
        both = graph.routed((2 * experts.feed_forward, used, tokens), current, chosen)
        halves = [graph.view(both, width, *both.strides[1:3]) for _ in range(2)]
        wide = graph.new(width, *halves)
    else:
        wide = graph.same(graph.routed(width, current, chosen))
    out = graph.same(graph.routed((shape.embedding, used, tokens), wide, chosen), weights)
    graph.expand(out)
    parts = [
        graph.expand(graph.view(out, (shape.embedding, tokens), out.strides[2]))
        for _ in range(used)
    ]
    added = parts[0]
    for part in parts[1:]:
        added = graph.expand(graph.same(added, part))
    return added if used > 1 else graph.new((shape.embedding, tokens), added)


def _grouped(graph: Graph, experts: Experts, scores: Tensor) -> Tensor:
    """Experts of the groups that score best; the others are masked."""
    groups, used = experts.groups, experts.groups_used
    if groups <= 1:
        return scores
    tokens, size = scores.shape[1], experts.count // groups
    grouped = graph.reshape(scores, size, groups, tokens)
    order = graph.new((size, groups, tokens), grouped)
    best = graph.view(order, (2, groups, tokens), *order.strides[1:3])
    tops = graph.new((1, 2, groups, tokens), graph.reshape(grouped, 1, size, groups, tokens), best)
    sums = graph.new((1, groups, tokens), graph.reshape(tops, 2, groups, tokens))
    order = graph.new((groups, tokens), graph.reshape(sums, groups, tokens))
    chosen = graph.view(order, (used, tokens), order.strides[1])
    kept = graph.new((size, used, tokens), grouped, chosen)
    masked = graph.same(grouped)
    filled = graph.view(masked, (size, groups, tokens))
    filled.inputs = (kept, chosen, masked)
    return graph.reshape(filled, experts.count, tokens)
