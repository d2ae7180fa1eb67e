"""Indexers as operations of a graph: which of the cached tokens a token attends to.

```
input -> [key] -> [norm] -> [rope, rotated] -> cache of keys
      -> [queries] -> [rope] -> [rotated] -> [scores of all cached tokens] -> [best] -> mask
```
"""

from math import prod

from modelrunner.memory.model.parts import Indexer, Layer
from modelrunner.memory.plan.batch import Batch
from modelrunner.memory.plan.planner import Graph, Tensor


def keep_index(graph: Graph, batch: Batch, indexer: Indexer, current: Tensor) -> None:
    """Puts the keys of a micro batch into the indexer's cache."""
    size, tokens = indexer.key_size, batch.tokens
    normed = graph.same(graph.new((size, tokens), graph.new((size, tokens), current)))
    key = graph.same(graph.reshape(normed, size, 1, tokens), batch.positions)
    key = graph.new((size, 1, tokens), batch.index_rotation, key)
    graph.expand(graph.store(graph.view(key, (size, tokens), key.strides[2]), batch.index_places))


def choose(graph: Graph, batch: Batch, indexer: Indexer, current: Tensor, source: Tensor) -> Tensor:
    """The numbers of the cached tokens that score best for each token."""
    size, heads, tokens, streams = indexer.key_size, indexer.heads, batch.tokens, batch.load.streams
    cells, each = batch.index_mask.shape[0], tokens // streams
    query = graph.reshape(graph.new((size * heads, tokens), source), size, heads, tokens)
    query = graph.new((size, heads, tokens), batch.index_rotation, graph.same(query))
    query = graph.view(query, (size, heads, each, streams), *query.strides[1:3])
    weights = graph.new((heads, tokens), current)
    weights = graph.same(graph.view(weights, (heads, each, 1, streams), weights.strides[1]))
    scores = graph.new((cells, each, 1, streams), query, weights, batch.index_mask)
    best = (min(indexer.top, cells), each, 1, streams)
    return graph.new(best, graph.new(best, scores))


def mask_others(graph: Graph, chosen: Tensor, mask: Tensor) -> Tensor:
    """The mask, with all but the chosen tokens masked too."""
    seen = graph.same(graph.leaf(1, *chosen.shape[:2], chosen.shape[3]))
    hidden = graph.same(mask)
    shown = graph.view(hidden, (prod(mask.shape),))
    shown.inputs = (seen, chosen, hidden)
    return graph.same(graph.reshape(shown, *mask.shape), mask)


def attend_to_blocks(
    graph: Graph, batch: Batch, layer: Layer, indexer: Indexer, current: Tensor, query: Tensor
) -> Tensor:
    """Attention that sees the best blocks of the cache only, others for each group of heads.

    The indexer's keys are in the cache already; the mask of each group is as large as the whole.
    """
    tokens, groups, streams = batch.tokens, layer.kv_heads, batch.load.streams
    each, cells = tokens // streams, batch.load.cells
    if not batch.chosen:  # a mask in full precision, for all layers
        batch.chosen.append(graph.new((cells, each, 1, streams), batch.masks[0]))
    scored = graph.new((indexer.key_size * groups, tokens), current)
    blocks = graph.new((each * groups, cells, streams), graph.same(scored))
    masks = graph.new((cells, each * groups, streams), blocks)
    masks = graph.new((cells, each, 1, groups * streams), masks, batch.chosen[0], unit=2)
    size = (layer.value_size, layer.heads // groups, each, groups * streams)
    out = graph.new(size, query, masks)
    return graph.expand(graph.new((layer.value_size * layer.heads, tokens), out))
