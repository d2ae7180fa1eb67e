"""What a header says that cannot be true at once: llama.cpp refuses such a file."""

import re
from collections.abc import Sequence

from modelrunner.gguf.header import Array, Header
from modelrunner.memory.model.hyperparameters import Hyperparameters

_NUMBER = r"^blk\.(\d{1,9})\."
_BY_LAYER = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")
"""Keys whose arrays llama.cpp takes only with a value for each layer."""
_SHARED_LAYERS = ("hrm.layers_per_stack",)
"""Keys of models whose layers are computed more often than they are stored, all counted."""


def contradiction(header: Header, shards: Sequence[Header] = ()) -> str | None:
    """Return what is wrong with the number of layers; None where nothing is.

    Args:
        header: Of the first file.
        shards: Of all other files of the model.
    """
    hyper = Hyperparameters.from_metadata(header.metadata)
    layers = hyper.count("block_count")
    for name in _BY_LAYER:
        key = f"{hyper.architecture}.{name}"
        value = header.metadata.get(key)
        if layers and isinstance(value, Array) and value.length != layers:
            return f"{key} has {value.length} values for {layers} layers"
    numbers = [
        int(match[1])
        for part in (header, *shards)
        for tensor in part.tensors
        if (match := re.match(_NUMBER, tensor.name))
    ]
    expected = layers - hyper.count("nextn_predict_layers")
    shared = any(hyper.count(key) for key in _SHARED_LAYERS)
    if numbers and not shared and max(numbers) + 1 < expected:
        return f"{hyper.architecture}.block_count is {layers}, with tensors of {max(numbers) + 1}"
    return None
