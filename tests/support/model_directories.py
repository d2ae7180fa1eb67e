"""Directories of models in other formats than GGUF: small, and as their makers lay them out."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path


def safetensors(
    tensors: Mapping[str, Sequence[int]], dtype: str = "BF16", metadata: Mapping[str, str] = {}
) -> bytes:
    """A safetensors file with tensors of zeros, in a type of two bytes."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in tensors.items():
        begin = end
        size = 2
        for each in shape:
            size *= each
        end = begin + size
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(end)


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A directory with these files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


CONFIG = {"model_type": "llama", "max_position_embeddings": 2048}

ONE = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": safetensors({"a.weight": (16, 8), "b.weight": (40,)}),
    "tokenizer.json": b"{}",
    "LICENSE": b"be kind",
    "chat_template.jinja": b"{{ messages }}",
}
"""A model in one file."""

SHARDS = {
    **{name: content for name, content in ONE.items() if name != "model.safetensors"},
    "README.md": b"# A model",
    "model-00001-of-00002.safetensors": safetensors(
        {"a.weight": (16, 8)}, metadata={"format": "pt"}
    ),
    "model-00002-of-00002.safetensors": safetensors({"b.weight": (40,)}),
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "modeling_own.py": b"print('code')",
    "onnx/model.onnx": b"onnx",
}
"""A model in two, with code, and with the same in another format beside it."""
