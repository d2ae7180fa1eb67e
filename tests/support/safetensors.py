"""Safetensors files and configs of Transformers, small but for what their numbers say."""

import json
from collections.abc import Mapping, Sequence

BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "U32": 4, "F8_E4M3": 1, "U8": 1}
Described = Mapping[str, tuple[str, Sequence[int]]]

LLAMA: Mapping[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
"""Of Llama 3.2 1B: 32 KiB of KV cache a token in bf16."""

TINY: Described = {"model.embed.weight": ("BF16", [100, 64]), "model.norm.weight": ("BF16", [64])}
"""6464 parameters."""


def header_of(tensors: Described, metadata: Mapping[str, str] | None = None) -> bytes:
    """A header, with its length, of tensors that follow one another."""
    value: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = BYTES[dtype]
        for side in shape:
            size *= side
        value[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(value).encode()
    return len(raw).to_bytes(8, "little") + raw


def tensor_bytes(tensors: Described) -> int:
    """Bytes of all tensors."""
    total = 0
    for dtype, shape in tensors.values():
        size = BYTES[dtype]
        for side in shape:
            size *= side
        total += size
    return total


def safetensors_file(tensors: Described, metadata: Mapping[str, str] | None = None) -> bytes:
    """A file of zeros."""
    return header_of(tensors, metadata) + bytes(tensor_bytes(tensors))


def config_json(**changes: object) -> bytes:
    """The config of a Llama with changes; None removes a key."""
    merged = {**LLAMA, **changes}
    return json.dumps({key: value for key, value in merged.items() if value is not None}).encode()
