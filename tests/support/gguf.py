"""Writes GGUF files for tests: well-formed ones of a few kilobytes, and the pieces for worse ones.

The values are as plausible as tests need; no runtime is asked to load these files.
"""

import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelrunner.gguf.tensor_types import TENSOR_TYPES

F32, F16, Q4_0, Q8_0 = 0, 1, 2, 8

# the format's numbers of value types, and how struct packs each
VALUE_TYPES: dict[str, tuple[int, str]] = {
    "uint8": (0, "B"),
    "int8": (1, "b"),
    "uint16": (2, "H"),
    "int16": (3, "h"),
    "uint32": (4, "I"),
    "int32": (5, "i"),
    "float32": (6, "f"),
    "bool": (7, "?"),
    "string": (8, ""),
    "array": (9, ""),
    "uint64": (10, "Q"),
    "int64": (11, "q"),
    "float64": (12, "d"),
}

Tensor = tuple[str, Sequence[int], int]


@dataclass(frozen=True)
class Typed:
    """A value whose type in the file is said, not guessed; of a list, it is the items' type."""

    type: str
    value: object


def string(text: str | bytes) -> bytes:
    """A string as the format has it: a 64-bit length and its bytes."""
    encoded = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(encoded)) + encoded


def key_value(key: str | bytes, value: object) -> bytes:
    """A key, the type of its value, and the value."""
    if isinstance(value, Typed) and isinstance(value.value, (list, tuple)):
        items: Sequence[object] = value.value
        return _array(key, value.type, items)
    if isinstance(value, (list, tuple)):
        return _array(key, _type_of(value[0]) if value else "uint32", value)
    typed = value if isinstance(value, Typed) else Typed(_type_of(value), value)
    return string(key) + struct.pack("<I", VALUE_TYPES[typed.type][0]) + _packed(typed)


def tensor_info(name: str | bytes, shape: Sequence[int], kind: int, offset: int) -> bytes:
    """One tensor's entry in the header; `shape` starts with the fastest dimension."""
    layout = f"<I{len(shape)}QIQ"
    return string(name) + struct.pack(layout, len(shape), *shape, kind, offset)


def encode_gguf(
    *,
    architecture: str | None = "llama",
    metadata: Mapping[str, object] | None = None,
    tensors: Sequence[Tensor] = (),
    version: int = 3,
    seed: int | None = None,
) -> bytes:
    """A whole GGUF file: header, padding and the tensors' bytes.

    Args:
        architecture: `general.architecture`; None leaves the key out.
        metadata: Key-values: plain Python values, or `Typed` ones.
        tensors: Name, shape (the fastest dimension first) and ggml type of each.
        version: Of the format.
        seed: Fills the tensors with pseudo-random bytes; without it they are zeros.
    """
    values: dict[str, object] = (
        {} if architecture is None else {"general.architecture": architecture}
    )
    values.update(metadata or {})
    alignment = _plain_int(values.get("general.alignment", 32))
    source = None if seed is None else random.Random(seed)
    infos, body = bytearray(), bytearray()
    for name, shape, kind in tensors:
        infos += tensor_info(name, shape, kind, len(body))
        size = tensor_size(shape, kind)
        body += bytes(size) if source is None else source.randbytes(size)
        body += bytes(-len(body) % alignment)
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    header += b"".join(key_value(key, value) for key, value in values.items()) + infos
    return header + bytes(-len(header) % alignment) + body


def write_gguf(
    path: Path,
    *,
    architecture: str | None = "llama",
    metadata: Mapping[str, object] | None = None,
    tensors: Sequence[Tensor] = (),
    version: int = 3,
    seed: int | None = None,
) -> Path:
    """`encode_gguf`, into a file."""
    content = encode_gguf(
        architecture=architecture, metadata=metadata, tensors=tensors, version=version, seed=seed
    )
    path.write_bytes(content)
    return path


def tiny_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    layers: int = 2,
    context_length: int = 2048,
    metadata: Mapping[str, object] | None = None,
    seed: int = 0,
) -> Path:
    """A small model in the shape of a llama: two layers, 32 tokens, 13K parameters, 11 KiB.

    Args:
        path: Where to write it.
        architecture: Its name; the keys follow it.
        layers: How many blocks of tensors.
        context_length: The context that it claims.
        metadata: More key-values, or other ones; None as a value leaves a key out.
        seed: Another seed makes another file of the same size.
    """
    values = tiny_metadata(architecture, layers, context_length) | dict(metadata or {})
    return write_gguf(
        path,
        architecture=None,
        metadata={key: value for key, value in values.items() if value is not None},
        tensors=tiny_tensors(layers),
        seed=seed,
    )


def tiny_projector(path: Path, *, width: int = 32, seed: int = 0) -> Path:
    """The header of a projector for models of this width, with one small tensor."""
    return write_gguf(
        path,
        architecture="clip",
        metadata={
            "general.type": "mmproj",
            "clip.has_vision_encoder": True,
            "clip.projector_type": "gemma3",
            "clip.vision.projection_dim": width,
        },
        tensors=[("mm.input_projection.weight", (width, 32), 0)],
        seed=seed,
    )


def tiny_shards(folder: Path, *, stem: str = "tiny", layers: int = 2, seed: int = 0) -> list[Path]:
    """The same model split in one file per layer, named as llama.cpp wants them."""
    tensors = tiny_tensors(layers)
    paths = []
    for number in range(layers):
        own = [t for t in tensors if t[0].startswith(f"blk.{number}.")]
        if number == 0:
            own = [t for t in tensors if not t[0].startswith("blk.")] + own
        split: dict[str, object] = {
            "split.no": Typed("uint16", number),
            "split.count": Typed("uint16", layers),
            "split.tensors.count": Typed("int32", len(tensors)),
        }
        values = tiny_metadata("llama", layers, 2048) if number == 0 else {}
        path = folder / f"{stem}-{number + 1:05d}-of-{layers:05d}.gguf"
        write_gguf(
            path, architecture=None, metadata=values | split, tensors=own, seed=seed + number
        )
        paths.append(path)
    return paths


def tiny_metadata(architecture: str, layers: int, context_length: int) -> dict[str, object]:
    """The key-values of the tiny model."""
    tokens = ["<unk>", "<s>", "</s>", *(f"t{number}" for number in range(29))]
    return {
        "general.architecture": architecture,
        "general.type": "model",
        "general.name": "Tiny",
        "general.size_label": "13K",
        "general.license": "apache-2.0",
        "general.file_type": 2,
        f"{architecture}.block_count": layers,
        f"{architecture}.context_length": context_length,
        f"{architecture}.embedding_length": 32,
        f"{architecture}.feed_forward_length": 32,
        f"{architecture}.attention.head_count": 4,
        f"{architecture}.attention.head_count_kv": 2,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.dimension_count": 8,
        f"{architecture}.rope.freq_base": 10000.0,
        f"{architecture}.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": Typed("int32", [2, 3, 3] + [1] * 29),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}",
    }


def tiny_tensors(layers: int) -> list[Tensor]:
    """The tensors of the tiny model."""
    width, vocabulary = 32, 32
    tensors: list[Tensor] = [
        ("token_embd.weight", (width, vocabulary), Q4_0),
        ("output_norm.weight", (width,), F32),
    ]
    for layer in range(layers):
        tensors += [
            (f"blk.{layer}.attn_norm.weight", (width,), F32),
            (f"blk.{layer}.attn_q.weight", (width, width), Q4_0),
            (f"blk.{layer}.attn_k.weight", (width, width // 2), Q4_0),
            (f"blk.{layer}.attn_v.weight", (width, width // 2), Q4_0),
            (f"blk.{layer}.attn_output.weight", (width, width), Q4_0),
            (f"blk.{layer}.ffn_norm.weight", (width,), F32),
            (f"blk.{layer}.ffn_gate.weight", (width, width), Q4_0),
            (f"blk.{layer}.ffn_up.weight", (width, width), Q4_0),
            (f"blk.{layer}.ffn_down.weight", (width, width), Q4_0),
        ]
    return tensors


def tensor_size(shape: Sequence[int], kind: int) -> int:
    """How many bytes a tensor takes."""
    _, block, size = TENSOR_TYPES[kind]
    elements = 1
    for dimension in shape:
        elements *= dimension
    return elements // block * size


def _array(key: str | bytes, item_type: str, items: Sequence[object]) -> bytes:
    head = struct.pack("<IIQ", VALUE_TYPES["array"][0], VALUE_TYPES[item_type][0], len(items))
    return string(key) + head + b"".join(_packed(Typed(item_type, item)) for item in items)


def _packed(typed: Typed) -> bytes:
    if typed.type == "string":
        assert isinstance(typed.value, (str, bytes))
        return string(typed.value)
    return struct.pack("<" + VALUE_TYPES[typed.type][1], typed.value)


def _type_of(value: object) -> str:
    match value:
        case bool():
            return "bool"
        case int():
            if value < 0:
                return "int32" if value >= -(2**31) else "int64"
            return "uint32" if value < 2**32 else "uint64"
        case float():
            return "float32"
        case str() | bytes():
            return "string"
        case _:
            raise TypeError(f"no GGUF type for {value!r}")


def _plain_int(value: object) -> int:
    plain = value.value if isinstance(value, Typed) else value
    assert isinstance(plain, int)
    return plain
