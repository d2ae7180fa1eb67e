"""Names, shapes and roles of the tensors of a described model, by architecture."""

from collections.abc import Iterator, Mapping
from typing import Any

Description = Mapping[str, Any]
Tensor = tuple[str, tuple[int, ...], str]

ENCODERS = {"bert", "nomic-bert"}
LAYER_NORM = {"bert", "cohere2", "command-r", "nomic-bert", "nemotron", "phi2", "starcoder2",
              "gptneox", "stablelm"}  # fmt: skip
_NORM_BIAS = {"nemotron", "phi2", "starcoder2", "gptneox", "stablelm"}
_BIASED = {"gpt-oss", "qwen2", "qwen2moe", "starcoder2", "bert"}
_FUSED = {"phi3", "phi2", "gptneox", "nomic-bert"}
_HEAD_NORM = {"qwen3", "qwen3moe", "gemma3", "exaone4", "gemma-embedding", "hunyuan-dense",
              "qwen3vl", "qwen3vlmoe", "gemma3n"}  # fmt: skip
_FLAT_NORM = {"olmo2", "olmoe"}
_POST_NORM = {"gemma2", "gemma3", "gemma3n", "olmo2", "exaone4", "glm4", "gemma-embedding"}
_NO_PRE_NORM = {"olmo2", "exaone4"}
_NO_GATE = {"starcoder2", "nemotron", "phi2", "gptneox", "bert", "arcee"}
_DOUBLE_UP = {"phi3", "glm4"}
_PARALLEL = {"command-r", "cohere2", "phi2"}


def attention_layers(model: Description) -> set[int]:
    """Layers with attention; the others of a hybrid are recurrent."""
    if "attention_layers" in model:
        return set(model["attention_layers"])
    return set(range(model["layers"])) if model.get("heads") else set()


def tensors(model: Description) -> Iterator[Tensor]:
    """All tensors, each with what it is for: that decides about its type."""
    arch, wide, vocab = model["arch"], model["embedding"], model["vocab"]
    yield "token_embd.weight", (wide, vocab), "embedding"
    if arch in ENCODERS:
        yield "token_types.weight", (wide, 2), "norm"
        yield "token_embd_norm.weight", (wide,), "norm"
        yield "token_embd_norm.bias", (wide,), "norm"
        if arch == "bert":
            yield "position_embd.weight", (wide, model["context"]), "norm"
    else:
        yield "output_norm.weight", (wide,), "norm"
        if arch in _NORM_BIAS:
            yield "output_norm.bias", (wide,), "norm"
        if not model["tied"]:
            yield "output.weight", (wide, vocab), "output"
        if arch == "phi2":
            yield "output.bias", (vocab,), "norm"
    if arch == "gemma3n":
        yield from _streams(model)
    attention = attention_layers(model)
    for i in range(model["layers"]):
        for name, shape, role in _layer(model, i, attends=i in attention):
            yield f"blk.{i}.{name}", shape, role


def _layer(model: Description, i: int, *, attends: bool) -> Iterator[Tensor]:
    arch = model["arch"]
    for name in _norms(arch):
        yield name, (model["embedding"],), "norm"
    if attends:
        yield from _latent(model) if arch == "deepseek2" else _attention(model)
    if not attends or arch == "falcon-h1":
        yield from _first_mamba(model) if arch == "mamba" else _state_space(model)
    yield from _feed_forward(model, i)
    if arch == "gemma3n":
        yield from _stream_layer(model)


def _norms(arch: str) -> list[str]:
    if arch in ENCODERS:
        names = ["attn_output_norm.weight", "layer_output_norm.weight"]
        return names + [name.replace("weight", "bias") for name in names]
    names = [] if arch in _NO_PRE_NORM else ["attn_norm.weight"]
    if arch in _POST_NORM:
        names += ["post_attention_norm.weight", "post_ffw_norm.weight"]
    if arch in ("gpt-oss", "glm4moe", "seed_oss"):
        names.append("post_attention_norm.weight")
    elif arch == "falcon-h1":
        names.append("ffn_norm")
    elif arch not in _NO_PRE_NORM | _PARALLEL | {"mamba", "mamba2"}:
        names.append("ffn_norm.weight")
    if arch in _NORM_BIAS:
        names += [name.replace("weight", "bias") for name in names]
    return names


def _streams(model: Description) -> Iterator[Tensor]:
    wide, layers = model["embedding"], model["layers"]
    yield "altup_proj.weight", (wide, wide, 3), "weight"
    yield "altup_unembd_proj.weight", (wide, wide, 3), "weight"
    yield "per_layer_token_embd.weight", (256 * layers, model["vocab"]), "weight"
    yield "per_layer_model_proj.weight", (wide, 256 * layers), "weight"
    yield "per_layer_proj_norm.weight", (256,), "norm"


def _stream_layer(model: Description) -> Iterator[Tensor]:
    wide = model["embedding"]
    yield "inp_gate.weight", (wide, 256), "weight"
    yield "proj.weight", (256, wide), "weight"
    yield "post_norm.weight", (wide,), "norm"
    yield "altup_correct_coef.weight", (4, 4), "norm"
    yield "altup_correct_scale.weight", (wide,), "norm"
    yield "altup_predict_coef.weight", (4, 16), "norm"
    yield "altup_router.weight", (wide, 4), "weight"
    yield "altup_router_norm.weight", (wide,), "norm"
    yield "laurel_l.weight", (wide, 64), "weight"
    yield "laurel_r.weight", (64, wide), "weight"
    yield "laurel_post_norm.weight", (wide,), "norm"


def _attention(model: Description) -> Iterator[Tensor]:
    arch, wide, size = model["arch"], model["embedding"], model["head_size"]
    query, key = model["heads"] * size, model["kv_heads"] * size
    if arch in _FUSED:
        yield "attn_qkv.weight", (wide, query + 2 * key), "weight"
        if arch in ("phi2", "gptneox"):
            yield "attn_qkv.bias", (query + 2 * key,), "norm"
            yield "attn_output.bias", (wide,), "norm"
    else:
        yield "attn_q.weight", (wide, query), "weight"
        yield "attn_k.weight", (wide, key), "weight"
        yield "attn_v.weight", (wide, key), "value"
    yield "attn_output.weight", (query, wide), "weight"
    if arch in _BIASED:
        for name, count in (("q", query), ("k", key), ("v", key)):
            yield f"attn_{name}.bias", (count,), "norm"
    if arch in ("gpt-oss", "starcoder2", "bert"):
        yield "attn_output.bias", (wide,), "norm"
    if arch == "gpt-oss":
        yield "attn_sinks.weight", (model["heads"],), "norm"
    if arch in _HEAD_NORM or arch in _FLAT_NORM:
        flat = arch in _FLAT_NORM
        yield "attn_q_norm.weight", (query if flat else size,), "norm"
        yield "attn_k_norm.weight", (key if flat else size,), "norm"


def _latent(model: Description) -> Iterator[Tensor]:
    wide, heads, rank = model["embedding"], model["heads"], model["kv_lora"]
    rope, plain, value = model["rope_size"], model["head_size"], model["value_size"]
    if model.get("q_lora"):
        yield "attn_q_a.weight", (wide, model["q_lora"]), "weight"
        yield "attn_q_a_norm.weight", (model["q_lora"],), "norm"
        yield "attn_q_b.weight", (model["q_lora"], heads * (plain + rope)), "weight"
    else:
        yield "attn_q.weight", (wide, heads * (plain + rope)), "weight"
    yield "attn_kv_a_mqa.weight", (wide, rank + rope), "weight"
    yield "attn_kv_a_norm.weight", (rank,), "norm"
    yield "attn_k_b.weight", (plain, rank, heads), "weight"
    yield "attn_v_b.weight", (rank, value, heads), "weight"
    yield "attn_output.weight", (heads * value, wide), "weight"


def _state_space(model: Description) -> Iterator[Tensor]:
    inner, heads, state = model["ssm_inner"], model["ssm_heads"], model["ssm_state"]
    groups, wide = model["ssm_groups"], model["embedding"]
    convolved = inner + 2 * groups * state
    yield "ssm_in.weight", (wide, inner + convolved + heads), "weight"
    yield "ssm_conv1d.weight", (model["ssm_conv"], convolved), "norm"
    yield "ssm_conv1d.bias", (convolved,), "norm"
    yield "ssm_dt.bias", (heads,), "norm"
    yield "ssm_a", (1, heads), "norm"
    yield "ssm_d", (1, heads), "norm"
    yield "ssm_norm.weight", (inner // groups, groups), "norm"
    yield "ssm_out.weight", (inner, wide), "weight"


def _first_mamba(model: Description) -> Iterator[Tensor]:
    inner, rank, state = model["ssm_inner"], model["ssm_heads"], model["ssm_state"]
    wide = model["embedding"]
    yield "ssm_in.weight", (wide, 2 * inner), "weight"
    yield "ssm_conv1d.weight", (model["ssm_conv"], inner), "norm"
    yield "ssm_conv1d.bias", (inner,), "norm"
    yield "ssm_x.weight", (inner, rank + 2 * state), "weight"
    yield "ssm_dt.weight", (rank, inner), "weight"
    yield "ssm_dt.bias", (inner,), "norm"
    yield "ssm_a", (state, inner), "norm"
    yield "ssm_d", (inner,), "norm"
    yield "ssm_out.weight", (inner, wide), "weight"


def _feed_forward(model: Description, i: int) -> Iterator[Tensor]:
    arch, wide, width = model["arch"], model["embedding"], model.get("feed_forward", 0)
    if model.get("experts") and i >= model.get("dense_layers", 0):
        yield from _experts(model)
    elif width:
        if arch not in _NO_GATE | _DOUBLE_UP:
            yield "ffn_gate.weight", (wide, width), "weight"
        yield "ffn_up.weight", (wide, (1 + (arch in _DOUBLE_UP)) * width), "weight"
        yield "ffn_down.weight", (width, wide), "down"
        if arch in _NO_GATE - {"nemotron", "arcee"}:
            yield "ffn_up.bias", (width,), "norm"
            yield "ffn_down.bias", (wide,), "norm"


def _experts(model: Description) -> Iterator[Tensor]:
    arch, wide = model["arch"], model["embedding"]
    count, width = model["experts"], model["expert_feed_forward"]
    yield "ffn_gate_inp.weight", (wide, count), "norm"
    if model.get("scored_bias") or arch == "glm4moe":
        yield "exp_probs_b.bias", (count,), "norm"
    for name, shape in (("gate", (wide, width)), ("up", (wide, width)), ("down", (width, wide))):
        role = "down" if name == "down" else "weight"
        yield f"ffn_{name}_exps.weight", (*shape, count), role
        if arch == "gpt-oss":
            yield f"ffn_{name}_exps.bias", (shape[1], count), "norm"
    if arch == "gpt-oss":
        yield "ffn_gate_inp.bias", (count,), "norm"
    shared = model.get("shared_feed_forward", 0)
    if shared:
        yield "ffn_gate_shexp.weight", (wide, shared), "weight"
        yield "ffn_up_shexp.weight", (wide, shared), "weight"
        yield "ffn_down_shexp.weight", (shared, wide), "down"
    if arch == "qwen2moe":
        yield "ffn_gate_inp_shexp.weight", (wide,), "norm"
