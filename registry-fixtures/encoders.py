"""The models that do not talk: an embedder of text, and the eye of a model that sees."""

from itertools import chain
from pathlib import Path

import tensors
import tokenizer
from blocks import Named
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, LlamaFileType, PoolingType
from talkers import LLAMA
from weights import noise, ones

LAYERS = 2
WIDTH = 64
INNER = 128
HEADS = 2
WORDS = ("all", "and", "hello", "is", "model", "of", "the", "this", "tiny", "world")

IMAGE = 28
PATCH = 14


def bert(path: Path) -> GGUFWriter:
    """An embedding model: the mean over what its two layers make of the tokens."""
    return _bert(path, "Tiny Bert", PoolingType.MEAN, iter(()))


def ranker(path: Path) -> GGUFWriter:
    """The same with a score in the end: how well a document answers a question."""
    head = [
        *_linear("cls", "ranker", WIDTH, WIDTH),
        *_linear("cls.output", "ranker", 1, WIDTH),
    ]
    return _bert(path, "Tiny Ranker", PoolingType.RANK, iter(head))


def _bert(path: Path, name: str, pooling: PoolingType, head: Named) -> GGUFWriter:
    vocabulary = tokenizer.word_pieces(WORDS)
    context = 512
    writer = GGUFWriter(path, "bert")
    writer.add_type("model")
    writer.add_name(name)
    writer.add_size_label("106K")
    writer.add_license("apache-2.0")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(2)
    writer.add_block_count(LAYERS)
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(pooling)
    tokenizer.describe(writer, "bert", "default", vocabulary)
    writer.add_token_type_count(2)
    writer.add_bos_token_id(vocabulary.number("[CLS]"))
    writer.add_sep_token_id(vocabulary.number("[SEP]"))
    writer.add_eos_token_id(vocabulary.number("[SEP]"))
    writer.add_unk_token_id(vocabulary.number("[UNK]"))
    writer.add_pad_token_id(vocabulary.number("[PAD]"))
    writer.add_mask_token_id(vocabulary.number("[MASK]"))
    _add(writer, chain(_bert_tensors(len(vocabulary), context), head))
    return writer


def projector(path: Path) -> GGUFWriter:
    """Four patches of an image, seen by two layers, as four embeddings of the tiny llama."""
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name("Tiny Llama")
    writer.add_license("apache-2.0")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_clip_has_vision_encoder(value=True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_image_size(IMAGE)
    writer.add_vision_patch_size(PATCH)
    writer.add_vision_embedding_length(WIDTH)
    writer.add_vision_feed_forward_length(INNER)
    writer.add_vision_block_count(LAYERS)
    writer.add_vision_head_count(HEADS)
    writer.add_vision_attention_layernorm_eps(1e-5)
    writer.add_vision_projection_dim(LLAMA.width)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    writer.add_vision_use_gelu(value=True)
    _add(writer, _projector_tensors())
    return writer


def _bert_tensors(vocabulary: int, context: int) -> Named:
    yield "token_embd.weight", noise("bert.tokens", vocabulary, WIDTH, scale=1.0)
    yield "token_types.weight", noise("bert.types", 2, WIDTH, scale=1 / 16)
    yield "position_embd.weight", noise("bert.positions", context, WIDTH, scale=1 / 16)
    yield from _norm("token_embd_norm", "bert")
    for layer in range(LAYERS):
        prefix = f"blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield from _linear(f"{prefix}.{part}", "bert", WIDTH, WIDTH)
        yield from _norm(f"{prefix}.attn_output_norm", "bert")
        yield from _linear(f"{prefix}.ffn_up", "bert", INNER, WIDTH)
        yield from _linear(f"{prefix}.ffn_down", "bert", WIDTH, INNER)
        yield from _norm(f"{prefix}.layer_output_norm", "bert")


def _projector_tensors() -> Named:
    patches = (IMAGE // PATCH) ** 2
    yield "v.class_embd", noise("clip.class", WIDTH, scale=1.0)
    yield "v.patch_embd.weight", noise("clip.patch", WIDTH, 3, PATCH, PATCH, scale=1 / 16)
    yield "v.position_embd.weight", noise("clip.positions", patches + 1, WIDTH, scale=1 / 16)
    yield from _norm("v.pre_ln", "clip")
    for layer in range(LAYERS):
        prefix = f"v.blk.{layer}"
        yield from _norm(f"{prefix}.ln1", "clip")
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield from _linear(f"{prefix}.{part}", "clip", WIDTH, WIDTH)
        yield from _norm(f"{prefix}.ln2", "clip")
        yield from _linear(f"{prefix}.ffn_up", "clip", INNER, WIDTH)
        yield from _linear(f"{prefix}.ffn_down", "clip", WIDTH, INNER)
    yield from _linear("mm.0", "clip", LLAMA.width, WIDTH)
    yield from _linear("mm.2", "clip", LLAMA.width, LLAMA.width)


def _linear(name: str, seed: str, outputs: int, inputs: int) -> Named:
    yield f"{name}.weight", noise(f"{seed}.{name}", outputs, inputs, scale=1 / 8)
    yield f"{name}.bias", noise(f"{seed}.{name}.bias", outputs, scale=1 / 16)


def _norm(name: str, seed: str) -> Named:
    yield f"{name}.weight", ones(WIDTH)
    yield f"{name}.bias", noise(f"{seed}.{name}.bias", WIDTH, scale=1 / 16)


def _add(writer: GGUFWriter, named: Named) -> None:
    """Matrices as F16; what is added to every row stays F32, as llama.cpp's converter does."""
    for name, values in named:
        matrix = name.endswith(".weight") and values.ndim > 1
        kept = name in ("token_types.weight", "position_embd.weight", "v.position_embd.weight")
        tensors.add(writer, name, values, Type.F16 if matrix and not kept else Type.F32)
