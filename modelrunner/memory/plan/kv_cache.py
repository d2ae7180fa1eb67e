"""What a model remembers of a conversation: keys and values, or the state of a recurrence."""

from collections.abc import Iterator
from itertools import cycle, repeat

from modelrunner.errors import CacheTypeError
from modelrunner.frozen import replace
from modelrunner.memory.model.parts import Layer
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import CACHE_TYPES, Load, is_packed, padded

_STATE_BYTES = 4


def planned(shape: ModelShape, load: Load) -> Load:
    """The use as llama.cpp runs it: some architectures never use flash attention."""
    return load if shape.wiring.flash else replace(load, flash_attention=False)


def check_cache(shape: ModelShape, load: Load) -> None:
    """Accept types of the cache that llama.cpp has for a model.

    Raises:
        CacheTypeError: It would refuse to start with them.
    """
    problem = _problem(shape, load)
    if problem is not None:
        raise CacheTypeError(problem[0], hint=problem[1])


def takes(shape: ModelShape, load: Load) -> bool:
    """Whether llama.cpp has the types of the cache for a model."""
    return _problem(shape, load) is None


def _problem(shape: ModelShape, load: Load) -> tuple[str, str] | None:
    """What is wrong with the types of the cache, and what helps; None if nothing is."""
    keys, values = load.kv_types
    if shape.latent and keys != values:
        return (
            f"KV cache types {keys} for keys and {values} for values: this model keeps both in one",
            f"use one type for both, such as {keys}",
        )
    for kind, side, sizes in zip(load.kv_types, ("key", "value"), _head_sizes(shape), strict=True):
        block = CACHE_TYPES[kind][0]
        odd = next((size for size in sizes if size % block), None)
        if odd is not None:
            about = f"this model's {side}s of {odd}"
            return (
                f"KV cache type {kind} packs {block} numbers, which do not divide {about}",
                f"use {_alternatives()}",
            )
    if is_packed(values) and not planned(shape, load).flash_attention:
        why = "which is off" if shape.wiring.flash else f"which {shape.architecture} does not have"
        return (
            f"KV cache type {values} for values needs flash attention, {why}",
            f"use {_alternatives()} for values",
        )
    return None


def _alternatives() -> str:
    *some, last = (kind for kind in CACHE_TYPES if not is_packed(kind))
    return f"{', '.join(some)} or {last}"


def _head_sizes(shape: ModelShape) -> tuple[list[int], list[int]]:
    """Numbers in one head's keys, and in its values, of each layer, as they are kept."""
    keys, values = [], []
    for layer in shape.layers:
        latent = layer.latent
        keys.append(latent.rank + latent.rope if latent else layer.key_size)
        values.append(latent.rank if latent else layer.value_size)
    return keys, values


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
    """Bytes of the cache of the layers that guess ahead: they are like the last one.

    Runtimes keep it in half precision, whatever the type of the model's own cache.
    """
    if not load.own_draft or not shape.layers:
        return 0
    load = replace(load, kv_type="f16", kv_type_v=None)
    return shape.extra_layers * layer_cache_bytes(shape, load, len(shape.layers) - 1)


def checkpoint_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of the states that are kept to go back to: what cannot be cut at any token.

    Of a cache with a window, only tokens in the window are kept, and not the micro batch's.
    """
    windows = 0
    if not load.swa_full:
        cells, several = window_cells(shape, load), load.parallel if load.unified else 1
        whole = sum(
            layer_cache_bytes(shape, load, i)
            for i in range(len(shape.layers))
            if shape.layers[i].windowed
        )
        windows = whole * min(shape.window * several, cells) // cells
    return load.checkpoints * (recurrent_bytes(shape, load) + windows)


def recurrent_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of the states of all recurrent layers and sequences, whatever the context."""
    return sum(layer_state_bytes(shape, load, i) for i in range(len(shape.layers)))


def layer_state_bytes(shape: ModelShape, load: Load, index: int) -> int:
    """Bytes of the recurrent states of one layer, for all sequences."""
    return _STATE_BYTES * shape.layers[index].state * load.parallel
