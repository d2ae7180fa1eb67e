"""Models of random weights for measurements: each has much of one kind of memory.

hybrid    Mamba-2 in most layers, with a state of 22 MiB for each conversation
windowed  a window of 1,024 tokens in five of six layers
packed    Q4_0, which llama.cpp lays out again for many CPUs

Every layer has the same weights; what they answer means nothing.
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import talkers
import tokenizer
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, quants

WIDTH, NEURONS = 256, 512
HEADS, KV_HEADS, HEAD = 8, 4, 128
INNER, STATE, STEPS, KERNEL = 1024, 256, 16, 4
HALF = INNER // 2
"""Width of the hybrid, which llama.cpp wants half as wide as the recurrence."""

WINDOW = 1024
WIDE, WIDE_NEURONS = 1024, 4096
CONTEXT = 32768

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def write_model(name: str, folder: Path) -> Path:
    """Write one of `MODELS`, and return its file."""
    path = folder / f"{name}.gguf"
    writer = MODELS[name](path)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def hybrid(path: Path) -> GGUFWriter:
    """One layer with attention in twelve, the others recurrent."""
    attends = [number % 12 == 5 for number in range(24)]
    writer = _described(path, "granitehybrid", [KV_HEADS * each for each in attends], HALF)
    writer.add_ssm_conv_kernel(KERNEL)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_group_count(1)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_time_step_rank(STEPS)
    layers = [_attention(HALF) if each else _recurrence() for each in attends]
    return _with_tensors(writer, [[*each, *_network(HALF, NEURONS)] for each in layers], HALF)


def windowed(path: Path) -> GGUFWriter:
    """As Gemma 3 has it: a norm on both sides, and of queries and keys."""
    writer = _described(path, "gemma3", [KV_HEADS] * 24, WIDTH)
    writer.add_sliding_window(WINDOW)
    norms = [
        *((f"attn_{part}_norm.weight", (HEAD,)) for part in "qk"),
        *((f"post_{part}_norm.weight", (WIDTH,)) for part in ("attention", "ffw")),
    ]
    layer = [*_attention(WIDTH), *_network(WIDTH, NEURONS), *norms]
    return _with_tensors(writer, [layer] * 24, WIDTH)


def packed(path: Path) -> GGUFWriter:
    """A plain transformer of matrices in Q4_0."""
    writer = _described(path, "llama", [KV_HEADS] * 24, WIDE)
    layer = [*_attention(WIDE), *_network(WIDE, WIDE_NEURONS)]
    return _with_tensors(writer, [layer] * 24, WIDE, Type.Q4_0)


def _described(path: Path, architecture: str, kv_heads: list[int], width: int) -> GGUFWriter:
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(len(kv_heads))
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(WIDE_NEURONS if width == WIDE else NEURONS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = _vocabulary()
    writer.add_vocab_size(len(vocabulary))
    tokenizer.describe(writer, "gpt2", "smollm", vocabulary)
    for add in (writer.add_bos_token_id, writer.add_eos_token_id):
        add(vocabulary.number("<|im_end|>"))
    writer.add_add_bos_token(value=False)
    writer.add_chat_template((talkers.TEMPLATES / "chatml.jinja").read_text("utf-8"))
    return writer


def _vocabulary() -> tokenizer.Vocabulary:
    return tokenizer.byte_level(
        control=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), end="<|im_end|>"
    )


def _attention(width: int) -> Shapes:
    yield "attn_q.weight", (HEADS * HEAD, width)
    yield "attn_k.weight", (KV_HEADS * HEAD, width)
    yield "attn_v.weight", (KV_HEADS * HEAD, width)
    yield "attn_output.weight", (width, HEADS * HEAD)


def _recurrence() -> Shapes:
    convolved = INNER + 2 * STATE
    yield "ssm_in.weight", (INNER + convolved + STEPS, HALF)
    yield "ssm_conv1d.weight", (convolved, KERNEL)
    yield "ssm_conv1d.bias", (convolved,)
    yield "ssm_dt.bias", (STEPS,)
    yield "ssm_a", (STEPS, 1)
    yield "ssm_d", (STEPS, 1)
    yield "ssm_norm.weight", (1, INNER)
    yield "ssm_out.weight", (HALF, INNER)


def _network(width: int, neurons: int) -> Shapes:
    yield "attn_norm.weight", (width,)
    yield "ffn_norm.weight", (width,)
    yield "ffn_gate.weight", (neurons, width)
    yield "ffn_up.weight", (neurons, width)
    yield "ffn_down.weight", (width, neurons)


def _with_tensors(
    writer: GGUFWriter,
    layers: list[list[tuple[str, tuple[int, ...]]]],
    width: int,
    kind: Type = Type.F16,
) -> GGUFWriter:
    _add(writer, "token_embd.weight", (len(_vocabulary()), width), kind)
    _add(writer, "output_norm.weight", (width,), kind)
    for number, layer in enumerate(layers):
        for name, shape in layer:
            _add(writer, f"blk.{number}.{name}", shape, kind)
    return writer


def _add(writer: GGUFWriter, name: str, shape: tuple[int, ...], kind: Type) -> None:
    small = len(shape) == 1 or shape[-1] < WIDTH or "norm" in name
    values = _random(shape, Type.F32 if small else kind)
    packed = not small and kind is not Type.F16
    writer.add_tensor(name, values, raw_dtype=kind if packed else None)


@cache
def _random(shape: tuple[int, ...], kind: Type) -> np.ndarray:
    values = np.random.default_rng(0).uniform(-1 / 16, 1 / 16, shape).astype(np.float32)
    return values if kind is Type.F32 else quants.quantize(values, kind)


MODELS: dict[str, Callable[[Path], GGUFWriter]] = {
    "hybrid": hybrid,
    "windowed": windowed,
    "packed": packed,
}
