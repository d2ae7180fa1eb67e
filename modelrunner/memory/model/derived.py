"""What keys and tensors say about an architecture, whatever its name.

Tensors are called the same in all architectures of llama.cpp, so which layers recur or choose the
tokens that they attend to follows from their names. So does most of a graph where there is no rule
for an architecture: what only llama.cpp's source says - constants, the order of additions - is then
taken to be what most architectures have, and the range of an estimate is wide for that.
"""

import re
from collections.abc import Mapping, Set

from modelrunner.frozen import replace
from modelrunner.gguf.header import TensorInfo
from modelrunner.memory.model.hyperparameters import Hyperparameters
from modelrunner.memory.model.wiring import ChannelMix, Wiring

Tensors = Mapping[str, TensorInfo]

_GATES_OF_DELTA = ("ssm_ba.", "ssm_alpha.", "ssm_beta.", "ssm_beta_alpha.")
_POOLED_BY_ALL = (1, 2)
"""By the mean and by the first token, as encoders are; decoders are by the last."""

_GEMMA_NORMS = {"attn_norm.weight", "post_attention_norm.weight", "post_ffw_norm.weight"}
_NORMS_AFTER = {"attn_output_norm.weight", "layer_output_norm.weight"}
_NORMS_BETWEEN = {
    "ffn_norm.weight", "ffn_norm", "post_attention_norm.weight", "attn_output_norm.weight",
}  # fmt: skip
"""Without any of these, attention and the feed-forward network work side by side."""

_NORMS = ("attn_norm.weight", *sorted(_NORMS_BETWEEN))
_RECURRENT = r"^blk\.(\d{1,9})\.(?:ssm_|shortconv\.|time_mix_)"
_FUSED = r"^blk\.(\d{1,9})\.attn_qkv\.weight$"
_DOWN = ("down", "down_exps")
_USUAL_PERIOD = 4
_IMAGE_AXES = 4


def wiring(usual: Wiring, hyper: Hyperparameters, tensors: Tensors, suffixes: Tensors) -> Wiring:
    """The wiring of an unknown architecture.

    Args:
        usual: What is taken of known architectures too.
        hyper: The model's numbers.
        tensors: All tensors by name.
        suffixes: Tensors by what follows the number of a layer.
    """
    names = suffixes.keys()
    norms_after = names >= _NORMS_AFTER and "attn_norm.weight" not in names
    bare = not any(name in names for name in _NORMS)
    beside = "attn_norm.weight" in names and not names & _NORMS_BETWEEN and _has_blocks(tensors)
    crossed = any(name.startswith("cross_attn_q.") for name in names)
    return replace(
        usual,
        bare_norms=bare,
        attention_norm=usual.attention_norm or bare,
        feed_forward_norm=usual.feed_forward_norm or bare,
        parallel="same" if beside and not norms_after else "no",
        norms_after=norms_after,
        entry_norm="token_embd_norm.weight" in names and "output_norm.weight" in names,
        rope=_has_rope(hyper, names),
        axes=_IMAGE_AXES if hyper.get("rope.dimension_sections") else 1,
        both=_has_both(tensors),
        settled=has_delta_gates(tensors) or bool(hyper.count("kda.head_dim")),
        query_gate=_has_query_gate(suffixes),
        relative=any(name.startswith("attn_rel_b.") for name in names),
        crossed=crossed,
        all_rows=crossed or any(name.startswith("vis_") for name in names),
        residual_first=any(name.startswith("shortconv.") for name in names),
        seventh="time_mix_a0.weight" in names,
        channel_mix=_channel_mix(names),
        dense_beside="ffn_norm_exps.weight" in names,
    )


def reads_all_at_once(hyper: Hyperparameters, tensors: Tensors) -> bool:
    """Whether it is an encoder or works by diffusion: either has no cache."""
    causal = hyper.get("attention.causal")
    if causal is not None:
        return causal is False
    diffuses = any(key.startswith("diffusion.") for key in hyper.values)
    pooled = hyper.get("pooling_type") in _POOLED_BY_ALL
    return diffuses or pooled or only_encodes(tensors)


def only_encodes(tensors: Tensors) -> bool:
    """Whether it is the encoder of a model that has a decoder too: its cache is there, unused."""
    biased = any(name.endswith(".attn_rel_b.weight") for name in tensors)
    return biased and not any(".cross_attn_" in name for name in tensors)


def window_period(tensors: Tensors) -> int:
    """Of how many layers one sees all, where the header has a window and no list of layers.

    Attention sinks, and norms on both sides of attention, come with a period of their own.
    """
    names = {name.removeprefix("blk.0.") for name in tensors if name.startswith("blk.0.")}
    if "attn_sinks.weight" in names:
        return 2
    if not names >= _GEMMA_NORMS or {"attn_gate.weight", "attn_qkv.weight"} & names:
        return _USUAL_PERIOD
    return 6 if "attn_q_norm.weight" in names else 2


def has_delta_gates(tensors: Tensors) -> bool:
    """Whether recurrent layers are gated delta nets."""
    return any(f".{gate}" in name for name in tensors for gate in _GATES_OF_DELTA)


def recurrent_layers(tensors: Tensors) -> set[int]:
    """Numbers of the layers with the tensors of a recurrence."""
    found = {int(match[1]) for name in tensors if (match := re.match(_RECURRENT, name))}
    return found or lightning_layers(tensors)


def lightning_layers(tensors: Tensors) -> set[int]:
    """Layers with lightning attention: a gate and one matrix, where others have three."""
    apart = any(name.endswith(".attn_q.weight") for name in tensors)
    if not apart or any(re.match(_RECURRENT, name) for name in tensors):
        return set()
    fused = {int(match[1]) for name in tensors if (match := re.match(_FUSED, name))}
    return {i for i in fused if f"blk.{i}.attn_gate.weight" in tensors}


def has_indexer(tensors: Tensors, layer: int) -> bool:
    """Whether a layer chooses the tokens that it attends to."""
    return any(name.startswith(f"blk.{layer}.indexer.") for name in tensors)


def _has_rope(hyper: Hyperparameters, names: Set[str]) -> bool:
    elsewhere = "position_embd.weight" in names or hyper.get("attention.max_alibi_bias")
    return not elsewhere and not any(name.startswith("attn_rel_b.") for name in names)


def _has_blocks(tensors: Tensors) -> bool:
    """Whether attention and a feed-forward network are in one layer."""
    attends = {x.partition(".attn_output.")[0] for x in tensors if ".attn_output." in x}
    return any(f"{layer}.ffn_{x}.weight" in tensors for layer in attends for x in _DOWN)


def _has_both(tensors: Tensors) -> bool:
    """Whether a layer has attention and a recurrence side by side."""
    layers = {name.partition(".ssm_in.")[0] for name in tensors if ".ssm_in." in name}
    return any(f"{layer}.attn_{x}.weight" in tensors for layer in layers for x in ("k", "qkv"))


def _channel_mix(names: Set[str]) -> ChannelMix:
    if "channel_mix_key.weight" not in names:
        return "none"
    return "gated" if "channel_mix_receptance.weight" in names else "plain"


def _has_query_gate(suffixes: Tensors) -> bool:
    query, out = suffixes.get("attn_q.weight"), suffixes.get("attn_output.weight")
    return bool(query and out and query.shape[1:] == (2 * out.shape[0],))
