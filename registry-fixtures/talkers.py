"""The models that talk: a Granite hybrid, a dense llama; and one that no runtime can load."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tensors
import tokenizer
import weights
from blocks import Attention, Named, Recurrent, feed_forward
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, LlamaFileType
from tokenizer import Vocabulary

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Talker:
    """The sizes of a language model, layer by layer.

    Attributes:
        seed: What its noise is drawn from.
        strength: How loud the last block speaks; see `weights.recital`.
    """

    seed: str
    width: int
    neurons: int
    layers: tuple[Attention | Recurrent, ...]
    strength: float

    def tensors(self, vocabulary: Vocabulary) -> Named:
        """Every tensor by name; input and output share the embeddings."""
        rows = weights.embeddings(self.seed, len(vocabulary), self.width)
        yield "token_embd.weight", rows
        yield "output_norm.weight", weights.ones(self.width)
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            prefix, seed = f"blk.{number}", f"{self.seed}.{number}"
            yield f"{prefix}.attn_norm.weight", weights.ones(self.width)
            yield from layer.tensors(prefix, seed, self.width)
            yield f"{prefix}.ffn_norm.weight", weights.ones(self.width)
            if number < last:
                block = weights.idle(seed, self.width, self.neurons)
            else:
                block = weights.recital(
                    rows, vocabulary.walks, self.neurons, strength=self.strength
                )
            yield from feed_forward(prefix, block)


ATTENTION = Attention(heads=4, kv_heads=1, head_size=64)
MAMBA = Recurrent(inner=512, heads=8, state=128, groups=1, kernel=4)
GRANITE = Talker("granite", 256, 256, (MAMBA, MAMBA, ATTENTION, MAMBA), strength=256.0)
SIX_BIT_LAYERS = (2, 3)  # llama.cpp: the first and the last eighth, and every third in between
DENSE = Attention(heads=4, kv_heads=2, head_size=32)
LLAMA = Talker("llama", 128, 128, (DENSE, DENSE), strength=8.0)


def granite_hybrid(path: Path) -> GGUFWriter:
    """Granite 4.0 H Micro in small: its keys, its kind of template, its mix of Q4_K and Q6_K."""
    vocabulary = tokenizer.byte_level(
        control=("<|end_of_text|>", "<|pad|>", "<|unk|>", "<|start_of_role|>", "<|end_of_role|>"),
        defined=("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
        end="<|end_of_text|>",
        walks=(("<tool_call>", "\n"), ("}", "</tool_call>", "<|end_of_text|>")),
    )
    writer = GGUFWriter(path, "granitehybrid")
    _general(writer, "Granite 4.0 Micro", "3B", LlamaFileType.MOSTLY_Q4_K_M)
    _sizes(writer, GRANITE, vocabulary, context=1_048_576)
    writer.add_head_count(ATTENTION.heads)
    writer.add_head_count_kv(
        [layer.kv_heads if isinstance(layer, Attention) else 0 for layer in GRANITE.layers]
    )
    writer.add_key_length(ATTENTION.head_size)
    writer.add_value_length(ATTENTION.head_size)
    writer.add_rope_dimension_count(ATTENTION.head_size)
    writer.add_rope_scaling_finetuned(value=False)
    _granite_keys(writer)
    tokenizer.describe(writer, "gpt2", "dbrx", vocabulary)
    writer.add_bos_token_id(vocabulary.number("<|end_of_text|>"))
    writer.add_eos_token_id(vocabulary.number("<|end_of_text|>"))
    writer.add_unk_token_id(vocabulary.number("<|unk|>"))
    writer.add_pad_token_id(vocabulary.number("<|pad|>"))
    _conversation(writer, "granite.jinja")
    return _with_tensors(writer, GRANITE, vocabulary, _q4_k_m)


def llama(path: Path) -> GGUFWriter:
    """A dense model with grouped queries, small in every direction."""
    return _llama(GGUFWriter(path, "llama"))


def llama_in_shards(path: Path) -> GGUFWriter:
    """The same model in three files; the first has the metadata."""
    return _llama(GGUFWriter(path, "llama", split_max_tensors=7))


def base(path: Path) -> GGUFWriter:
    """A base model: no chat template, and behind its sentence it begins the next turn as text."""
    return without_template(path, "Tiny Base", then="[INST]")


def without_template(path: Path, name: str, *, then: str) -> GGUFWriter:
    """A dense model without a chat template.

    Args:
        path: Where it goes.
        name: Its name.
        then: The text behind its sentence; it begins anew after that, for ever.
    """
    vocabulary = tokenizer.byte_level(
        control=("<|endoftext|>",), defined=("[INST]",), end=then, walks=(("[INST]", "Hello"),)
    )
    writer = GGUFWriter(path, "llama")
    _general(writer, name, "237K", LlamaFileType.MOSTLY_Q8_0)
    _sizes(writer, LLAMA, vocabulary, context=8192)
    writer.add_head_count(DENSE.heads)
    writer.add_head_count_kv(DENSE.kv_heads)
    writer.add_rope_dimension_count(DENSE.head_size)
    tokenizer.describe(writer, "gpt2", "smollm", vocabulary)
    writer.add_bos_token_id(vocabulary.number("<|endoftext|>"))
    writer.add_eos_token_id(vocabulary.number("<|endoftext|>"))
    writer.add_add_bos_token(value=False)
    return _with_tensors(writer, LLAMA, vocabulary, _q8_0)


def nonesuch(path: Path) -> GGUFWriter:
    """A file that any reader accepts and no runtime runs: its architecture does not exist."""
    vocabulary = tokenizer.byte_level(control=("<|endoftext|>",), end="<|endoftext|>")
    talker = Talker("nonesuch", 32, 32, (Attention(heads=1, kv_heads=1, head_size=32),), 8.0)
    writer = GGUFWriter(path, "nonesuch")
    _general(writer, "Nonesuch", "17K", LlamaFileType.ALL_F32)
    _sizes(writer, talker, vocabulary, context=512)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    tokenizer.describe(writer, "gpt2", "smollm", vocabulary)
    return _with_tensors(writer, talker, vocabulary, lambda _: Type.F32)


def _llama(writer: GGUFWriter) -> GGUFWriter:
    vocabulary = tokenizer.byte_level(
        control=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), end="<|im_end|>"
    )
    _general(writer, "Tiny Llama", "237K", LlamaFileType.MOSTLY_Q8_0)
    _sizes(writer, LLAMA, vocabulary, context=8192)
    writer.add_head_count(DENSE.heads)
    writer.add_head_count_kv(DENSE.kv_heads)
    writer.add_rope_dimension_count(DENSE.head_size)
    tokenizer.describe(writer, "gpt2", "smollm", vocabulary)
    writer.add_bos_token_id(vocabulary.number("<|im_start|>"))
    writer.add_eos_token_id(vocabulary.number("<|im_end|>"))
    writer.add_unk_token_id(vocabulary.number("<|endoftext|>"))
    writer.add_pad_token_id(vocabulary.number("<|im_end|>"))
    _conversation(writer, "chatml.jinja")
    return _with_tensors(writer, LLAMA, vocabulary, _q8_0)


def _general(writer: GGUFWriter, name: str, size_label: str, file_type: LlamaFileType) -> None:
    writer.add_type("model")
    writer.add_name(name)
    writer.add_size_label(size_label)
    writer.add_license("apache-2.0")
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)


def _sizes(writer: GGUFWriter, talker: Talker, vocabulary: Vocabulary, *, context: int) -> None:
    writer.add_block_count(len(talker.layers))
    writer.add_context_length(context)
    writer.add_embedding_length(talker.width)
    writer.add_feed_forward_length(talker.neurons)
    writer.add_vocab_size(len(vocabulary))
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)


def _granite_keys(writer: GGUFWriter) -> None:
    """What only this family has: its four scales, no experts, and the recurrent layers."""
    writer.add_embedding_scale(12.0)
    writer.add_residual_scale(0.22)
    writer.add_attention_scale(1 / ATTENTION.head_size)
    writer.add_logit_scale(8.0)
    writer.add_expert_count(0)
    writer.add_expert_used_count(0)
    writer.add_ssm_conv_kernel(MAMBA.kernel)
    writer.add_ssm_state_size(MAMBA.state)
    writer.add_ssm_group_count(MAMBA.groups)
    writer.add_ssm_inner_size(MAMBA.inner)
    writer.add_ssm_time_step_rank(MAMBA.heads)


def _conversation(writer: GGUFWriter, template: str) -> None:
    writer.add_add_bos_token(value=False)
    writer.add_chat_template((TEMPLATES / template).read_text("utf-8"))


def _with_tensors(
    writer: GGUFWriter, talker: Talker, vocabulary: Vocabulary, kind_of: Callable[[str], Type]
) -> GGUFWriter:
    for name, values in talker.tensors(vocabulary):
        tensors.add(writer, name, values, kind_of(name))
    return writer


def _q4_k_m(name: str) -> Type:
    """The mix that llama.cpp calls Q4_K_M, for `GRANITE`: which tensors deserve six bits."""
    if not tensors.is_quantised(name):
        return Type.F32
    if name == "token_embd.weight":  # the output as well
        return Type.Q6_K
    _, layer, part, _ = name.split(".")
    better = int(layer) in SIX_BIT_LAYERS and part in ("attn_v", "ffn_down")
    return Type.Q6_K if better else Type.Q4_K


def _q8_0(name: str) -> Type:
    return Type.Q8_0 if tensors.is_quantised(name) else Type.F32
