"""What a model card's row says about memory, and how that figure came about.

The rows of Docker's cards were made by one tool for a context of 4096 tokens, whatever context
the row prints: all layers on one GPU, f16 cache, no flash attention, a micro batch of 512 tokens
whose logits are all kept, twice. That puts the truth, in most rows, between Size and VRAM.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from modelrunner.gguf.header import Header, TensorInfo
from modelrunner.memory.estimate import Estimate
from modelrunner.memory.model.parts import Layer
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import padded

CARD_CONTEXT = 4096
"""Tokens that every row's VRAM is for."""

_BETWEEN = 0.6
"""Where between Size and VRAM the truth is: the best single guess."""

_LOW, _HIGH = 0.98, 1.02
_WHEN_SMALLER = 1.6
"""How much more than Size it may be where VRAM leaves out the embeddings and is below Size."""

_TOKENS, _LOGICAL_BATCH, _F32, _F16 = 512, 2048, 4, 2
_CARD_PADDING = 32
_CARD_WINDOWS = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "llama4": 4}


def estimate_from_card(vram_bytes: int | None, size_bytes: int, *, context: int) -> Estimate:
    """What a row says of a use; for another context than its own it says nothing.

    Args:
        vram_bytes: The row's VRAM, if it has one.
        size_bytes: The row's Size.
        context: Tokens that are asked for.
    """
    vram = vram_bytes or size_bytes
    guess = size_bytes + round(_BETWEEN * (vram - size_bytes))
    low, high = int(_LOW * min(size_bytes, vram)), int(_HIGH * vram)
    notes = [f"from a card, which is for a context of {CARD_CONTEXT}"]
    if vram <= size_bytes:
        guess, high = size_bytes, int(_WHEN_SMALLER * size_bytes)
        notes.append("unreliable: the VRAM in the card is not above the size")
    bound: int | None = high
    if context > CARD_CONTEXT:
        bound = None
        notes.append(
            f"unknown beyond a context of {CARD_CONTEXT}: a longer context needs more memory"
        )
    return Estimate(
        None, None, None, None, None, None, low, bound, "card", tuple(notes), whole=guess
    )


class CardFigures(NamedTuple):
    """What a card prints of a file: both are binary sizes, whatever unit it says."""

    vram_bytes: int
    size_bytes: int


def card_figures(header: Header, *, shards: Sequence[Header] = ()) -> CardFigures:
    """A card's VRAM and Size, recomputed from the header by the card's own formula.

    It is wrong where the formula is: it counts a recurrent state for every layer of a hybrid, no
    cache for one whose first layer has none, and all logits twice.
    """
    shape = ModelShape.from_header(header, shards=shards)
    tensors = [tensor for part in (header, *shards) for tensor in part.tensors]
    size = sum(part.tensor_bytes for part in (header, *shards))
    logits = _TOKENS * shape.vocabulary * _F32
    vector = _TOKENS * shape.embedding * _F32
    inputs = vector if shape.state_space else vector + _TOKENS * (CARD_CONTEXT + 1) * _F32
    graph = _graph(shape, tensors)
    kept = _cache(shape) + _states(shape)
    return CardFigures(
        vram_bytes=_weights(tensors) + kept + inputs + graph + 2 * (logits + vector),
        size_bytes=size,
    )


def _weights(tensors: Sequence[TensorInfo]) -> int:
    """Everything but the embeddings; those too where they are the output matrix."""
    sizes: Mapping[str, int] = {tensor.name: tensor.size or 0 for tensor in tensors}
    inputs = sum(size for name, size in sizes.items() if name.startswith(("token_", "position_")))
    tied = "output.weight" not in sizes
    return sum(sizes.values()) - (0 if tied else inputs)


def _cache(shape: ModelShape) -> int:
    if not shape.layers:
        return 0
    first = shape.layers[0]
    every = _CARD_WINDOWS.get(shape.architecture, 1)
    window = min(CARD_CONTEXT, padded(shape.window + _LOGICAL_BATCH, _CARD_PADDING))
    row = _F16 * first.kv_heads * _heads(shape, first)
    cells = sum(window if i % every else CARD_CONTEXT for i in range(len(shape.layers)))
    return row * cells


def _heads(shape: ModelShape, layer: Layer) -> int:
    if shape.latent:
        return shape.latent.key_size + shape.latent.value_size
    return layer.key_size + layer.value_size


def _states(shape: ModelShape) -> int:
    space = shape.state_space
    if space is None:
        return 0
    return _F32 * (space.conv_state + space.scan_state) * len(shape.layers)


def _graph(shape: ModelShape, tensors: Sequence[TensorInfo]) -> int:
    """The larger of the last layer's attention and its feed-forward network."""
    prefix = f"blk.{len(shape.layers) - 1}."
    last = {t.name.removeprefix(prefix): t for t in tensors if t.name.startswith(prefix)}
    row, scores = _TOKENS * _F32, 0
    heads = max((layer.heads for layer in shape.layers), default=0)
    widths = {name: last[name].shape for name in last if name.endswith(".weight")}
    attention = row * (widths["attn_norm.weight"][-1] if "attn_norm.weight" in widths else 0)
    for name, side in (("attn_q.weight", 0), ("attn_qkv.weight", 0), ("attn_q_b.weight", -1)):
        if name in widths:
            attention += 2 * row * widths[name][side]
            scores = row * CARD_CONTEXT * heads
            if name == "attn_qkv.weight":
                attention += _F32 * 3 * shape.embedding**2
    wide = ("attn_norm.weight", "ffn_norm.weight", "ffn_gate.weight", "ffn_up.weight")
    forward = row * sum(widths[name][-1] for name in wide if name in widths)
    if shape.experts:
        count, used = shape.experts.count, shape.experts.used
        forward += _F32 * count * (shape.embedding + _TOKENS) + row * shape.embedding * used
    if shape.state_space and all(layer.recurrent for layer in shape.layers):
        return row * _recurrent_width(shape)
    return max(attention + scores, forward)


def _recurrent_width(shape: ModelShape) -> int:
    """Numbers a token that the formula counts for a model without any attention, about."""
    space = shape.state_space
    return 0 if space is None else shape.embedding + 4 * space.inner
