"""GGUF headers from a model's published numbers: what estimates are checked with, without weights.

A description is a JSON object, such as

```
{"name": "llama-3.2-1b", "arch": "llama", "layers": 16, "embedding": 2048, "heads": 32,
 "kv_heads": 8, "head_size": 64, "feed_forward": 8192, "vocab": 128256, "context": 131072,
 "tied": true, "quant": "Q4_K_M"}
```

Names and shapes of the tensors follow from the architecture, their types from `quant`. `write`
makes a file of the full length without contents, which llama.cpp can plan for.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelrunner.gguf.header import Array, Header, TensorInfo, Value, padded
from modelrunner.gguf.tensor_types import TENSOR_TYPES

Description = Mapping[str, Any]
Tensor = tuple[str, tuple[int, ...], str]

ALIGNMENT = 32
_TYPES = {known.name: number for number, known in TENSOR_TYPES.items()}
_FILE_TYPES = {"F16": 1, "Q8_0": 7, "Q4_K_M": 15, "MXFP4": 38}

_LAYER_NORM = {"bert", "cohere2", "command-r", "nomic-bert", "nemotron", "phi2", "starcoder2",
               "gptneox", "stablelm"}  # fmt: skip
_NORM_BIAS = {"nemotron", "phi2", "starcoder2", "gptneox", "stablelm"}
_BIASED = {"gpt-oss", "qwen2", "qwen2moe", "starcoder2", "bert"}
_FUSED = {"phi3", "phi2", "gptneox", "nomic-bert"}
_HEAD_NORM = {"qwen3", "qwen3moe", "gemma3", "exaone4", "gemma-embedding", "hunyuan-dense"}
_FLAT_NORM = {"olmo2", "olmoe"}
_POST_NORM = {"gemma2", "gemma3", "olmo2", "exaone4", "glm4", "gemma-embedding"}
_NO_PRE_NORM = {"olmo2", "exaone4"}
_NO_GATE = {"starcoder2", "nemotron", "phi2", "gptneox", "bert", "arcee"}
_DOUBLE_UP = {"phi3", "glm4"}
_ENCODERS = {"bert", "nomic-bert"}
_PARALLEL = {"command-r", "cohere2", "phi2"}


def header(model: Description) -> Header:
    """What the file of a described model would begin with."""
    metadata = key_values(model)
    tensors, offset = [], 0
    for name, shape, role in _tensors(model):
        tensor = TensorInfo(name, shape, _type(model, name, shape, role), offset)
        tensors.append(tensor)
        offset += padded(tensor.size or 0, ALIGNMENT)
    start = padded(len(_packed_start(metadata, tensors)), ALIGNMENT)
    return Header(3, metadata, tuple(tensors), ALIGNMENT, start, start + offset)


def write(model: Description, path: Path) -> int:
    """Writes the header and makes the file as long as the model would be; returns that length."""
    made = header(model)
    with path.open("wb") as file:
        file.write(_packed_start(made.metadata, list(made.tensors)))
        file.truncate(made.file_size)
    return made.file_size or 0


def key_values(model: Description) -> dict[str, Value]:
    """The key-values that say what the description says."""
    arch, layers = model["arch"], model["layers"]
    values: dict[str, Value] = {
        "general.architecture": arch,
        "general.name": model["name"],
        "general.file_type": _FILE_TYPES[model["quant"]],
        "tokenizer.ggml.model": "no_vocab",
    }
    own: dict[str, Value] = {
        "context_length": model["context"],
        "embedding_length": model["embedding"],
        "block_count": layers,
        "vocab_size": model["vocab"],
        "feed_forward_length": model.get("feed_forward") or model.get("expert_feed_forward", 0),
    }
    own[f"attention.layer_norm{'' if arch in _LAYER_NORM else '_rms'}_epsilon"] = 1e-5
    if model.get("heads"):
        own |= _attention_values(model)
    if model.get("window"):
        own["attention.sliding_window"] = model["window"]
    if model.get("experts"):
        own |= _expert_values(model)
    if model.get("ssm_inner"):
        for key, name in (
            ("conv_kernel", "ssm_conv"),
            ("inner_size", "ssm_inner"),
            ("state_size", "ssm_state"),
            ("time_step_rank", "ssm_heads"),
            ("group_count", "ssm_groups"),
        ):
            own[f"ssm.{key}"] = model[name]
    if arch.startswith("granite"):
        own |= {"embedding_scale": 12.0, "residual_scale": 0.22, "logit_scale": 8.0}
    if arch in ("cohere2", "command-r"):
        own["logit_scale"] = 0.25
    if arch == "gptneox":
        own["use_parallel_residual"] = True
    if arch in _ENCODERS:
        own |= {"attention.causal": False, "pooling_type": 1}
        values["tokenizer.ggml.token_type_count"] = 2
    return values | {f"{arch}.{key}": value for key, value in own.items()}


def _attention_values(model: Description) -> dict[str, Value]:
    arch, layers, size = model["arch"], model["layers"], model["head_size"]
    attention = _attention_layers(model)
    by_layer = tuple(model["kv_heads"] if i in attention else 0 for i in range(layers))
    values: dict[str, Value] = {
        "attention.head_count": model["heads"],
        "attention.head_count_kv": (
            Array("uint32", layers, by_layer) if "attention_layers" in model else model["kv_heads"]
        ),
        "rope.freq_base": 10000.0,
        "attention.key_length": size,
        "attention.value_length": size,
        "rope.dimension_count": size,
    }
    if arch == "deepseek2":
        values |= {
            "attention.head_count_kv": 1,
            "attention.key_length": model["kv_lora"] + model["rope_size"],
            "attention.value_length": model["kv_lora"],
            "attention.key_length_mla": size + model["rope_size"],
            "attention.value_length_mla": model["value_size"],
            "attention.kv_lora_rank": model["kv_lora"],
            "rope.dimension_count": model["rope_size"],
        }
        if model.get("q_lora"):
            values["attention.q_lora_rank"] = model["q_lora"]
    return values


def _expert_values(model: Description) -> dict[str, Value]:
    values: dict[str, Value] = {
        "expert_count": model["experts"],
        "expert_used_count": model["experts_used"],
        "expert_feed_forward_length": model["expert_feed_forward"],
    }
    shared = model.get("shared_feed_forward", 0)
    if model["arch"] in ("deepseek2", "deepseek", "glm4moe"):
        values |= {
            "leading_dense_block_count": model.get("dense_layers", 0),
            "expert_shared_count": max(shared // model["expert_feed_forward"], 1),
            "expert_weights_scale": 1.0,
        }
    elif shared:
        values["expert_shared_feed_forward_length"] = shared
    for name in ("expert_group_count", "expert_group_used_count", "expert_gating_func",
                 "expert_weights_norm"):  # fmt: skip
        if name in model:
            values[name] = model[name]
    return values


def _attention_layers(model: Description) -> set[int]:
    if "attention_layers" in model:
        return set(model["attention_layers"])
    return set(range(model["layers"])) if model.get("heads") else set()


def _tensors(model: Description) -> Iterator[Tensor]:
    arch, wide, vocab = model["arch"], model["embedding"], model["vocab"]
    yield "token_embd.weight", (wide, vocab), "embedding"
    if arch in _ENCODERS:
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
    attention = _attention_layers(model)
    for i in range(model["layers"]):
        for name, shape, role in _layer(model, i, attends=i in attention):
            yield f"blk.{i}.{name}", shape, role


def _layer(model: Description, i: int, *, attends: bool) -> Iterator[Tensor]:
    arch, wide = model["arch"], model["embedding"]
    both = arch == "falcon-h1"
    if arch in _ENCODERS:
        norms = ["attn_output_norm.weight", "layer_output_norm.weight"]
        norms += [name.replace("weight", "bias") for name in norms]
    else:
        norms = [] if arch in _NO_PRE_NORM else ["attn_norm.weight"]
        if arch in _POST_NORM:
            norms += ["post_attention_norm.weight", "post_ffw_norm.weight"]
        if arch in ("gpt-oss", "glm4moe"):
            norms.append("post_attention_norm.weight")
        elif arch == "falcon-h1":
            norms.append("ffn_norm")
        elif arch not in _NO_PRE_NORM | _PARALLEL | {"mamba2"}:
            norms.append("ffn_norm.weight")
        if arch in _NORM_BIAS:
            norms += [name.replace("weight", "bias") for name in norms]
    for name in norms:
        yield name, (wide,), "norm"
    if attends:
        yield from _latent(model) if arch == "deepseek2" else _attention(model)
    if both or not attends:
        yield from _state_space(model)
    yield from _feed_forward(model, i)


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


def _type(model: Description, name: str, shape: tuple[int, ...], role: str) -> int:
    """The type that llama.cpp's recipe gives a tensor."""
    quant = model["quant"]
    if role == "norm":
        wanted = "F32"
    elif quant == "MXFP4":
        wanted = "MXFP4" if "exps" in name else "Q8_0"
    elif quant == "Q4_K_M":
        better = role == "output" or (role == "embedding" and model["tied"])
        wanted = "Q6_K" if better or _is_better(model, name, role) else "Q4_K"
    else:
        wanted = quant
    if shape[0] % TENSOR_TYPES[_TYPES[wanted]].block:
        wanted = "Q8_0" if shape[0] % 32 == 0 else "F16"
    return _TYPES[wanted]


def _is_better(model: Description, name: str, role: str) -> bool:
    """Q4_K_M keeps the first and last layers, and every third between, in a finer type."""
    if role not in ("value", "down"):
        return False
    layer, eighth = int(name.split(".")[1]), model["layers"] // 8
    return layer < eighth or layer >= 7 * model["layers"] // 8 or (layer - eighth) % 3 == 2


def _packed_start(metadata: Mapping[str, Value], tensors: list[TensorInfo]) -> bytes:
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_packed_text(key), _packed_value(value)]
    for tensor in tensors:
        parts += [_packed_text(tensor.name), struct.pack("<I", len(tensor.shape))]
        parts.append(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape))
        parts.append(struct.pack("<IQ", tensor.type, tensor.offset))
    return b"".join(parts)


def _packed_text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _packed_value(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _packed_text(value)
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    items = value.items or ()
    return struct.pack(f"<IIQ{len(items)}I", 9, 4, len(items), *items)
