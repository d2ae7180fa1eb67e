"""What a model remembers of a conversation: keys and values, or the state of a recurrence."""

from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load, padded

_STATE_BYTES = 4


def window_cells(shape: ModelShape, load: Load) -> int:
    """Tokens that one cache of a windowed layer holds."""
    if load.swa_full:
        return load.cells
    most = min(load.micro_batch, load.context)
    several = load.parallel if load.unified else 1
    return padded(min(load.cells, shape.window * several + most))


def kv_cache_bytes(shape: ModelShape, load: Load) -> int:
    """Bytes of keys and values of all layers and sequences."""
    if shape.wiring.encoder:
        return 0
    return sum(layer_cache_bytes(shape, load, i) for i in range(len(shape.layers)))


def layer_cache_bytes(shape: ModelShape, load: Load, index: int) -> int:
    """Bytes of keys and values of one layer, for all sequences."""
    layer = shape.layers[index]
    if not layer.kv_heads:
        return 0
    cells = window_cells(shape, load) if layer.windowed else load.cells
    if shape.latent:
        row = load.cache_bytes(shape.latent.rank + shape.latent.rope)
    else:
        row = load.cache_bytes(layer.kv_heads * layer.key_size) + load.cache_bytes(
            layer.kv_heads * layer.value_size
        )
    return cells * row * load.streams


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
    space = shape.state_space
    if space is None or not shape.layers[index].recurrent:
        return 0
    return _STATE_BYTES * (space.conv_state + space.scan_state) * load.parallel
