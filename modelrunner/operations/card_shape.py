"""A card's "Model shape" table as hyperparameters, by the names that GGUF gives them."""

from collections.abc import Mapping

from modelrunner.cards.card import Shape, ShapeValue
from modelrunner.memory.hyperparameters import Hyperparameters, Plain
from modelrunner.memory.shape import ModelShape

_NAMES = {
    "layers": "block_count",
    "embedding": "embedding_length",
    "heads": "attention.head_count",
    "head_size": "attention.key_length",
    "feed_forward": "feed_forward_length",
    "vocab": "vocab_size",
    "context": "context_length",
    "window": "attention.sliding_window",
    "experts": "expert_count",
    "experts_used": "expert_used_count",
    "expert_feed_forward": "expert_feed_forward_length",
    "shared_feed_forward": "expert_shared_feed_forward_length",
    "dense_layers": "leading_dense_block_count",
    "ssm_inner": "ssm.inner_size",
    "ssm_heads": "ssm.time_step_rank",
    "ssm_state": "ssm.state_size",
    "ssm_groups": "ssm.group_count",
    "ssm_conv": "ssm.conv_kernel",
}


def model_shape(shape: Shape, weights: int) -> ModelShape:
    """The shape that a card tells, with the bytes of its weights."""
    architecture = str(shape.get("arch", ""))
    values: dict[str, Plain] = {
        f"{architecture}.{_NAMES[key]}": value
        for key, value in shape.items()
        if key in _NAMES and not isinstance(value, str | tuple)
    }
    values[f"{architecture}.attention.value_length"] = _number(shape.get("head_size"))
    values[f"{architecture}.attention.head_count_kv"] = _kv_heads(shape)
    return ModelShape.from_values(
        Hyperparameters(architecture, values),
        weights=weights,
        vocabulary=_number(shape.get("vocab")),
        tied=bool(shape.get("tied")),
    )


def _kv_heads(shape: Mapping[str, ShapeValue]) -> Plain:
    """The number of KV heads, by layer where only some layers attend."""
    heads, attending = _number(shape.get("kv_heads")), shape.get("attention_layers")
    if not isinstance(attending, tuple):
        return heads
    layers = range(_number(shape.get("layers")))
    return tuple(heads if layer in attending else 0 for layer in layers)


def _number(value: ShapeValue | None) -> int:
    return value if isinstance(value, int) else 0
