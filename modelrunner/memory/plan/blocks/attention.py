"""Attention as operations of a graph: over a cache, over a compressed one, or without one."""

from math import prod

from modelrunner.memory.model.parts import Latent, Layer
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.batch import Batch
from modelrunner.memory.plan.blocks.indexer import attend_to_blocks, choose, keep_index, mask_others
from modelrunner.memory.plan.planner import OUTSIDE, Graph, Tensor


def attend(graph: Graph, shape: ModelShape, batch: Batch, i: int, current: Tensor) -> Tensor:
    """Attention of layer `i`, with the projection back."""
    layer, wiring = shape.layers[i], shape.wiring
    if layer.latent:
        return _attend_latent(graph, shape, layer.latent, batch, layer, current)
    query, key, value = _query_key_value(graph, shape, batch, layer, current)
    query_gate = query if wiring.query_gate else None
    query, key = (_turned(graph, shape, batch, i, tensor) for tensor in (query, key))
    value = graph.same(value) if wiring.value_norm else value
    by_key, by_value = batch.rotations[layer.windowed]
    query, key, value = (
        _rotated(graph, tensor, by) if by else tensor
        for tensor, by in ((query, by_key), (key, by_key), (value, by_value))
    )
    graph.expand(query)
    if not layer.reuses_cache:
        for other in (key, value) if wiring.windows or wiring.encoder else (value, key):
            graph.expand(other)
    if wiring.encoder:
        if wiring.relative:
            out = _biased_uncached(graph, batch, query, key, value)
        else:
            out = _uncached(graph, batch, query, key, value, batch.masks[layer.windowed])
        return graph.new((shape.embedding, batch.tokens), out)
    if not layer.reuses_cache:
        _keep(graph, batch, layer, key, value)
    out = _over_cache(graph, shape, batch, layer, current, query)
    out = _rotated(graph, out, by_value) if by_value else out
    out = _gated(graph, layer, out, current, query_gate)
    out = graph.norm(out) if wiring.inner_norms else out
    return graph.new((shape.embedding, batch.tokens), out)


def _gated(
    graph: Graph, layer: Layer, out: Tensor, current: Tensor, query_gate: Tensor | None
) -> Tensor:
    """The result of attention behind a gate, where it has one."""
    width, tokens = out.shape[:2]
    if query_gate is not None:
        gate = graph.new((width, tokens), query_gate)
        return graph.same(out, graph.same(gate))
    if not layer.gate:
        return out
    gate = graph.same(graph.new((layer.gate, tokens), current))
    if layer.gate == width:
        return graph.same(out, gate)
    by_head = graph.reshape(out, width // layer.gate, layer.gate, tokens)
    gated = graph.same(by_head, graph.reshape(gate, 1, layer.gate, tokens))
    return graph.reshape(gated, width, tokens)


def _turned(graph: Graph, shape: ModelShape, batch: Batch, i: int, tensor: Tensor) -> Tensor:
    """Queries or keys after their norm and with their positions, as far as they have these."""
    wiring = shape.wiring
    turns = wiring.rope and not (wiring.rope_skips and (i + 1) % wiring.rope_skips == 0)
    if wiring.rope_windowed_only and wiring.windows and not shape.layers[i].windowed:
        turns = False
    if wiring.head_norm:
        tensor = graph.norm(tensor)
    return graph.same(tensor, batch.positions) if turns else tensor


def _query_key_value(
    graph: Graph, shape: ModelShape, batch: Batch, layer: Layer, current: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    if layer.indexer:
        keep_index(graph, batch, layer.indexer, current)
    sizes = (
        (layer.key_size, layer.heads),
        (layer.key_size, layer.kv_heads),
        (layer.value_size, layer.kv_heads),
    )
    tokens = batch.tokens
    if shape.wiring.fused_qkv:
        width = sum(map(prod, sizes))
        fused = graph.new((width, tokens), current)
        query, key, value = (
            graph.view(fused, (*size, tokens), 4 * size[0], 4 * width) for size in sizes
        )
    else:
        products = [graph.new((prod(size), tokens), current) for size in sizes]
        for product, name in zip(products, ("attn_q", "attn_k", "attn_v"), strict=True):
            product.name = name
        query, key, value = (
            graph.reshape(product, *size, tokens)
            for product, size in zip(products, sizes, strict=True)
        )
        if shape.wiring.query_gate:  # each head's query lies before its gate
            both = graph.new((2 * prod(sizes[0]), tokens), current)
            query = graph.view(both, (*sizes[0], tokens), 8 * sizes[0][0], both.strides[1])
    return query, key, value


def _rotated(graph: Graph, tensor: Tensor, by: Tensor) -> Tensor:
    side = by.shape[0]
    flat = (side, prod(tensor.shape) // side)
    packed = tensor.strides[1:3] == (4 * tensor.shape[0], 4 * tensor.shape[0] * tensor.shape[1])
    source = graph.reshape(tensor, *flat) if packed else graph.new(flat, tensor)
    return graph.reshape(graph.new(flat, by, source), *tensor.shape)


def _keep(graph: Graph, batch: Batch, layer: Layer, key: Tensor, value: Tensor) -> None:
    """Puts keys and values of the micro batch into the cache."""
    for_keys, for_values = batch.places[layer.windowed]
    graph.expand(graph.store(_flat(graph, batch, key), for_keys))
    flat = _flat(graph, batch, value)
    if not batch.load.flash_attention and flat.strides[1] != 4 * flat.shape[0]:
        flat = graph.new(flat.shape, value)  # values are kept across: they must lie packed
    graph.expand(graph.store(flat, for_values))


def _flat(graph: Graph, batch: Batch, tensor: Tensor) -> Tensor:
    return graph.view(tensor, (tensor.shape[0] * tensor.shape[1], batch.tokens), tensor.strides[2])


def _uncached(
    graph: Graph, batch: Batch, query: Tensor, key: Tensor, value: Tensor, mask: Tensor
) -> Tensor:
    """Attention of the micro batch to itself, all of it at once."""
    _, heads, tokens, _ = query.shape
    query = graph.permute(query, 0, 2, 1, 3)
    if batch.load.flash_attention:
        halves = [
            graph.new((x.shape[0], tokens, x.shape[1]), graph.permute(x, 0, 2, 1, 3), unit=2)
            for x in (key, value)
        ]
        out = graph.new((value.shape[0], heads, tokens), query, *halves, mask)
        return graph.expand(graph.reshape(out, value.shape[0] * heads, tokens))
    scores = graph.new((tokens, tokens, heads), graph.permute(key, 0, 2, 1, 3), query)
    scores = graph.same(scores, mask)
    across = graph.new((tokens, value.shape[0], value.shape[1]), graph.permute(value, 1, 2, 0, 3))
    out = graph.new((value.shape[0], tokens, heads), across, scores)
    return graph.expand(graph.new((value.shape[0] * heads, tokens), graph.permute(out, 0, 2, 1, 3)))


def attend_across(graph: Graph, shape: ModelShape, batch: Batch, i: int, current: Tensor) -> Tensor:
    """Attention to the result of an encoder, with the projection back."""
    layer, tokens = shape.layers[i], batch.tokens
    sizes = (layer.key_size, layer.heads), (layer.key_size, layer.heads)
    query = graph.reshape(graph.new((prod(sizes[0]), tokens), current), *sizes[0], tokens)
    key, value = (
        graph.reshape(graph.new((prod(size), tokens), batch.encoded), *size, tokens)
        for size in sizes
    )
    for tensor in (query, key, value):
        graph.expand(tensor)
    out = _uncached(graph, batch, query, key, value, batch.across)
    return graph.new((shape.embedding, tokens), out)


def _biased_uncached(
    graph: Graph, batch: Batch, query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    size = (batch.tokens, value.shape[0], value.shape[1])
    across = graph.new(size, graph.permute(value, 1, 2, 0, 3))
    return _biased(graph, batch, query, graph.permute(key, 0, 2, 1, 3), across)


def _biased(graph: Graph, batch: Batch, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention with a bias for each distance and head; values lie across."""
    _, heads, tokens, _ = query.shape
    cells, size, *_ = value.shape
    graph.expand(value)
    scores = graph.new((cells, tokens, heads), key, graph.permute(query, 0, 2, 1, 3))
    found = graph.new((heads, tokens * cells), graph.reshape(batch.distances, tokens * cells))
    bias = graph.new((cells, tokens, heads), graph.reshape(found, heads, cells, tokens))
    scores = graph.same(graph.same(scores, bias), batch.masks[0])
    out = graph.permute(graph.new((size, tokens, heads), value, scores), 0, 2, 1, 3)
    return graph.expand(graph.new((size * heads, tokens), out))


def _over_cache(
    graph: Graph, shape: ModelShape, batch: Batch, layer: Layer, current: Tensor, query: Tensor
) -> Tensor:
    if layer.indexer:
        return attend_to_blocks(graph, batch, layer, layer.indexer, current, query)
    if shape.wiring.relative:
        return _biased_over_cache(graph, batch, layer, query)
    return _mixed(graph, batch, layer, query)


def _biased_over_cache(graph: Graph, batch: Batch, layer: Layer, query: Tensor) -> Tensor:
    size = (batch.load.cells, layer.value_size, layer.kv_heads)
    return _biased(graph, batch, query, query, graph.new(size, query, unit=2))


def _mixed(graph: Graph, batch: Batch, layer: Layer, query: Tensor) -> Tensor:
    """Values weighed by how queries match keys: all heads of a token side by side."""
    size, heads, tokens, _ = query.shape
    streams = batch.load.streams
    each = tokens // streams
    mask = batch.masks[layer.windowed]
    query = graph.view(
        query, (size, heads, each, streams), *query.strides[1:3], query.strides[2] * each
    )
    query = graph.permute(query, 0, 2, 1, 3)
    if batch.load.flash_attention:
        sides = (layer.key_size, layer.kv_heads), (layer.value_size, layer.kv_heads)
        halves = _halved(graph, batch, mask.shape[0], *sides)
        out = graph.new((layer.value_size, heads, each, streams), query, *halves, mask)
        return graph.expand(graph.reshape(out, layer.value_size * heads, tokens))
    scores = graph.new((mask.shape[0], each, heads, streams), query)
    scores = graph.same(scores, mask)
    out = graph.permute(graph.new((layer.value_size, each, heads, streams), scores), 0, 2, 1, 3)
    return graph.expand(graph.new((layer.value_size * heads, tokens), out))


def _halved(graph: Graph, batch: Batch, cells: int, *sides: tuple[int, int]) -> list[Tensor]:
    """Copies of a cache in full precision, which flash attention reads in half of it."""
    streams = batch.load.streams
    return [
        graph.new((size, cells, heads, streams), OUTSIDE, unit=2)
        for (size, heads), kind in zip(sides, batch.load.kv_types, strict=False)
        if kind == "f32"
    ]


def _attend_latent(
    graph: Graph, shape: ModelShape, latent: Latent, batch: Batch, layer: Layer, current: Tensor
) -> Tensor:
    """Queries are brought into the compressed space, so that one key serves all heads."""
    tokens, heads = batch.tokens, layer.heads
    plain = latent.key_size - latent.rope
    if layer.indexer:
        keep_index(graph, batch, layer.indexer, current)
    source = current
    if latent.query_rank:
        source = graph.norm(graph.new((latent.query_rank, tokens), current))
    query = graph.reshape(
        graph.new((heads * latent.key_size, tokens), source), latent.key_size, heads, tokens
    )
    row, token = 4 * latent.key_size, 4 * latent.key_size * heads
    compressed = graph.new((latent.rank + latent.rope, tokens), current)
    width = 4 * (latent.rank + latent.rope)
    turned_query = graph.same(
        graph.view(query, (latent.rope, heads, tokens), row, token), batch.positions
    )
    turned_key = graph.same(
        graph.view(compressed, (latent.rope, 1, tokens), width, width), batch.positions
    )
    kept = graph.norm(graph.view(compressed, (latent.rank, tokens), width))
    unturned = graph.permute(graph.view(query, (plain, heads, tokens), row, token), 0, 2, 1, 3)
    absorbed = graph.permute(graph.new((latent.rank, tokens, heads), unturned), 0, 2, 1, 3)
    joined = latent.rank + latent.rope
    query = graph.new((joined, heads, tokens), absorbed, turned_query)
    kept = graph.reshape(kept, latent.rank, 1, tokens)
    key = graph.new((joined, 1, tokens), kept, turned_key)
    for tensor in (query, kept, key):
        graph.expand(tensor)
    place = batch.places[layer.windowed][0]
    graph.expand(graph.store(graph.view(key, (joined, tokens), key.strides[2]), place))
    mask = batch.masks[layer.windowed]
    if layer.indexer:
        batch.chosen[:] = [choose(graph, batch, layer.indexer, current, source)]
    if batch.chosen and not layer.windowed:
        mask = mask_others(graph, batch.chosen[0], mask)
    out = _mixed_latent(graph, latent, batch, query, mask)
    return graph.new((shape.embedding, tokens), _gated(graph, layer, out, current, None))


def _mixed_latent(
    graph: Graph, latent: Latent, batch: Batch, query: Tensor, mask: Tensor
) -> Tensor:
    size, heads, tokens, _ = query.shape
    streams = batch.load.streams
    each = tokens // streams
    query = graph.view(
        query, (size, heads, each, streams), *query.strides[1:3], query.strides[2] * each
    )
    query = graph.permute(query, 0, 2, 1, 3)
    if batch.load.flash_attention:
        sides = (size, 1), (latent.rank, 1)
        halves = _halved(graph, batch, mask.shape[0], *sides)
        out = graph.new((latent.rank, heads, each, streams), query, *halves, mask)
        out = graph.permute(out, 0, 2, 1, 3)
        out = graph.new((latent.value_size, each, heads, streams), out)
        out = graph.permute(out, 0, 2, 1, 3)
        out = graph.new((latent.value_size, heads, each, streams), out)
        return graph.expand(graph.reshape(out, latent.value_size * heads, tokens))
    # a compressed cache has no values that lie across: they are turned first
    turned = graph.expand(
        graph.new((mask.shape[0], latent.rank, 1, streams), batch.positions, unit=2)
    )
    scores = graph.same(graph.new((mask.shape[0], each, heads, streams), query), mask)
    out = graph.new((latent.rank, each, heads, streams), turned, scores)
    out = graph.permute(graph.new((latent.value_size, each, heads, streams), out), 0, 2, 1, 3)
    return graph.expand(graph.new((latent.value_size * heads, tokens), out))
