"""What a model remembers of a conversation: keys and values, or the state of a recurrence."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, repeat

from modelrunner.memory.model.parts import Layer
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load, padded

_STATE_BYTES = 4


def planned(shape: ModelShape, load: Load) -> Load:
    """The use as llama.cpp runs it: some architectures never use flash attention."""
    return load if shape.wiring.flash else replace(load, flash_attention=False)


def window_cells(shape: ModelShape, load: Load) -> int:
    """Tokens that one cache of a windowed layer holds."""
    if load.swa_full:
        return load.cells
    most = min(load.micro_batch, load.context)
    several = load.parallel if load.unified else 1
    return padded(min(load.cells, shape.window * several + most))


def kv_cache_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of keys and values of all layers and sequences."""
    return sum(layer_cache_bytes(shape, load, i) for i in range(len(shape.layers)))


def layer_cache_bytes(shape: ModelShape, load: Load, index: int) -> int:
    """Bytes of keys and values of one layer, for all sequences."""
    layer = shape.layers[index]
    cells = window_cells(shape, load) if layer.windowed else load.cells
    widths = _widths(shape, load, layer)
    size = cells * sum(
        load.cache_bytes(width, kind)
        for width, kind in zip(widths, kinds_of(layer, load), strict=False)
    )
    if layer.compressed:
        fewer = padded(-(-load.cells // layer.ratio))
        size += fewer * sum(load.cache_bytes(width) for width in layer.compressed)
    return size * load.streams


def kinds_of(layer: Layer, load: Load) -> Iterator[str]:
    """The type of each matrix of a layer's cache: of keys and values in turn."""
    return repeat(load.kv_type) if layer.latent else cycle(load.kv_types)


def _widths(shape: ModelShape, load: Load, layer: Layer) -> tuple[int, ...]:
    """Numbers kept for each token; values that lie across are as wide as the widest layer's."""
    if planned(shape, load).flash_attention or not layer.cached[1:] or layer.latent:
        return layer.cached
    key, _, *rest = layer.cached
    return key, max(x.cached[1] for x in shape.layers if x.cached[1:]), *rest


def own_draft_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of the cache of the layers that guess ahead: they are like the last one."""
    if not load.own_draft or not shape.layers:
        return 0
    return shape.extra_layers * layer_cache_bytes(shape, load, len(shape.layers) - 1)


def checkpoint_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of the states that are kept to go back to: what cannot be cut at any token."""
    windows = (
        0
        if load.swa_full
        else sum(
            layer_cache_bytes(shape, load, i)
            for i in range(len(shape.layers))
            if shape.layers[i].windowed
        )
    )
    return load.checkpoints * (recurrent_bytes(shape, load) + windows)


def recurrent_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of the states of all recurrent layers and sequences, whatever the context."""
    return sum(layer_state_bytes(shape, load, i) for i in range(len(shape.layers)))


def layer_state_bytes(shape: ModelShape, load: Load, index: int) -> int:
    """Bytes of the recurrent states of one layer, for all sequences."""
    return _STATE_BYTES * shape.layers[index].state * load.parallel
