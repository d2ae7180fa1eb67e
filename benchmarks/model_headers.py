"""GGUF headers from a model's published numbers: what estimates are checked with, without weights.

A description is a JSON object, such as

```
{"name": "llama-3.2-1b", "arch": "llama", "layers": 16, "embedding": 2048, "heads": 32,
 "kv_heads": 8, "head_size": 64, "feed_forward": 8192, "vocab": 128256, "context": 131072,
 "tied": true, "quant": "Q4_K_M"}
```

Names and shapes of the tensors follow from the architecture, their types from `quant`. A
description may have both as they are instead: `kv`, the key-values of the file, and `tensors`, with
a name, a shape, a type and for layers their numbers, such as
`["blk.{}.attn_q.weight", [4096, 4096], "Q4_K", "0-3,7"]`. `write` makes a file of the full length
without contents, which llama.cpp can plan for.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.model_tensors import ENCODERS, LAYER_NORM, Description, attention_layers, tensors
from modelrunner.gguf.header import Array, Header, TensorInfo, Value, padded
from modelrunner.gguf.tensor_types import TENSOR_TYPES

ALIGNMENT = 32
_TYPES = {known.name: number for number, known in TENSOR_TYPES.items()}
_ARRAYS = {bool: "bool", int: "uint32", float: "float32", str: "string"}
_PACKED = {"bool": (7, "B"), "uint32": (4, "I"), "float32": (6, "f")}
_FILE_TYPES = {"F16": 1, "Q8_0": 7, "Q4_K_M": 15, "MXFP4": 38}


def header(model: Description) -> Header:
    """What the file of a described model would begin with."""
    metadata = key_values(model)
    made, offset = [], 0
    for name, shape, kind in _tensors(model):
        tensor = TensorInfo(name, shape, kind, offset)
        made.append(tensor)
        offset += padded(tensor.size or 0, ALIGNMENT)
    start = padded(len(_packed_start(metadata, made)), ALIGNMENT)
    return Header(3, metadata, tuple(made), ALIGNMENT, start, start + offset)


def _tensors(model: Description) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Name, shape and type of every tensor."""
    if "tensors" not in model:
        for name, shape, role in tensors(model):
            yield name, shape, _type(model, name, shape, role)
        return
    for name, sizes, kind, *numbers in model["tensors"]:
        for number in _layers(numbers[0]) if numbers else [0]:
            yield name.format(number), tuple(sizes), _TYPES[kind]


def _layers(text: str) -> Iterator[int]:
    """The numbers in a list of ranges such as `0-3,7`."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def write(model: Description, path: Path) -> int:
    """Writes the header and makes the file as long as the model would be; returns that length."""
    made = header(model)
    with path.open("wb") as file:
        file.write(_packed_start(made.metadata, list(made.tensors)))
        file.truncate(made.file_size)
    return made.file_size or 0


def key_values(model: Description) -> dict[str, Value]:
    """The key-values that say what the description says."""
    if "kv" in model:
        return {
            key: _array(value) if isinstance(value, list) else value
            for key, value in model["kv"].items()
        }
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
    own[f"attention.layer_norm{'' if arch in LAYER_NORM else '_rms'}_epsilon"] = 1e-5
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
    own |= _own_values(model)
    if arch in ENCODERS:
        values["tokenizer.ggml.token_type_count"] = 2
    return values | {f"{arch}.{key}": value for key, value in own.items()}


def _array(items: list[Any]) -> Array:
    """A list of JSON as a GGUF array."""
    first = next((item for item in items if not isinstance(item, int)), items[0])
    return Array(_ARRAYS[type(first)], len(items), tuple(items))


def _own_values(model: Description) -> dict[str, Value]:
    """What only some architectures have."""
    arch = model["arch"]
    own: dict[str, Value] = {}
    if arch.startswith("granite"):
        own |= {"embedding_scale": 12.0, "residual_scale": 0.22, "logit_scale": 8.0}
    if arch in ("cohere2", "command-r"):
        own["logit_scale"] = 0.25
    if arch == "gptneox":
        own["use_parallel_residual"] = True
    if arch.startswith(("qwen2vl", "qwen3vl")):
        own["rope.dimension_sections"] = Array("uint32", 4, (24, 20, 20, 0))
    if model.get("pictures"):
        own["n_deepstack_layers"] = model["pictures"]
    if arch in ENCODERS:
        own |= {"attention.causal": False, "pooling_type": 1}
    return own


def _attention_values(model: Description) -> dict[str, Value]:
    arch, layers, size = model["arch"], model["layers"], model["head_size"]
    attention = attention_layers(model)
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


def _packed_start(metadata: Mapping[str, Value], infos: list[TensorInfo]) -> bytes:
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(infos), len(metadata))]
    for key, value in metadata.items():
        parts += [_packed_text(key), _packed_value(value)]
    for tensor in infos:
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
    number, letter = _PACKED[value.item_type]
    return struct.pack(f"<IIQ{len(items)}{letter}", 9, number, len(items), *items)
