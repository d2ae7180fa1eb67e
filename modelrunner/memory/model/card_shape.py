"""A model's shape from the "Model shape" table of its card: an estimate before anything is read."""

from typing import TYPE_CHECKING

from modelrunner.memory.model.hyperparameters import Hyperparameters, Plain
from modelrunner.memory.model.shape import ModelShape

# late imports: only who has a card has loaded what is in one
if TYPE_CHECKING:
    from modelrunner.cards.card import Shape

_KEYS = {
    "layers": "block_count",
    "embedding": "embedding_length",
    "heads": "attention.head_count",
    "feed_forward": "feed_forward_length",
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

_RANK, _ROPE = 512, 64
"""Of latent attention in every published model that has it; tables do not answer."""


def shape_from_card(facts: "Shape", size_bytes: int) -> ModelShape | None:
    """Return the shape in a card's table; None where a necessary value is missing.

    Args:
        facts: A column of the table.
        size_bytes: The row's Size: bytes of all tensors.
    """
    architecture = facts.get("arch")
    if not isinstance(architecture, str) or not facts.get("layers") or not facts.get("embedding"):
        return None
    values: dict[str, Plain] = {
        f"{architecture}.{key}": facts[name] for name, key in _KEYS.items() if name in facts
    }
    values[f"{architecture}.attention.head_count_kv"] = _kv_heads(facts)
    values |= {f"{architecture}.{key}": value for key, value in _head_sizes(facts).items()}
    vocabulary = facts.get("vocab")
    return ModelShape.from_values(
        Hyperparameters(architecture, values),
        weights=size_bytes,
        vocabulary=vocabulary if isinstance(vocabulary, int) else 0,
        tied=facts.get("tied") is True,
    )


def _head_sizes(facts: "Shape") -> dict[str, Plain]:
    size = facts.get("head_size")
    if not size or not isinstance(size, int):
        return {}
    if facts.get("arch") != "deepseek2":
        return {"attention.key_length": size, "attention.value_length": size}
    return {
        "attention.key_length_mla": size + _ROPE,
        "attention.value_length_mla": size,
        "attention.kv_lora_rank": _RANK,
        "rope.dimension_count": _ROPE,
    }


def _kv_heads(facts: "Shape") -> Plain:
    """Heads that are cached: of every layer, or of those that have attention."""
    heads, attending, layers = (
        facts.get(name, 0) for name in ("kv_heads", "attention_layers", "layers")
    )
    if not isinstance(attending, tuple) or not isinstance(layers, int):
        return heads or facts.get("heads", 0)
    return tuple(
        int(heads) if i in attending and isinstance(heads, int) else 0 for i in range(layers)
    )
