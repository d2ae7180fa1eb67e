"""How the parts of a layer are put together: by what its tensors are called, or by architecture."""

import re
from collections.abc import Mapping

from modelrunner.frozen import replace
from modelrunner.gguf.header import TensorInfo
from modelrunner.memory.model import derived
from modelrunner.memory.model.hyperparameters import MAX_LAYERS, Hyperparameters
from modelrunner.memory.model.wiring import Gate, Wiring

_LLAMA = Wiring()
_CHOSEN = Wiring(normalized=False)
_GEMMA = Wiring(windows=True)
_HEAD_NORM = Wiring(head_norm=True)
_NO_GATE = Wiring(gate="none")
_SETTLED = Wiring(settled=True)

_ARCHITECTURES: dict[str, Wiring] = {
    "arcee": _NO_GATE,
    "arctic": Wiring(dense_beside=True),
    "bert": Wiring(encoder=True, norms_after=True, gate="none", rope=False, learned_positions=True),
    "bitnet": Wiring(inner_norms=True),
    "bloom": Wiring(rope=False, fused_qkv=True, gate="none", entry_norm=True),
    "cohere2moe": Wiring(parallel="same", windows=True, rope_windowed_only=True),
    "cohere2": Wiring(parallel="same", windows=True, rope_windowed_only=True),
    "cogvlm": Wiring(fused_qkv=True, all_rows=True),
    "command-r": Wiring(parallel="same"),
    "deepseek": _CHOSEN,
    "deepseek2": _CHOSEN,
    "ernie4_5": _LLAMA,
    "exaone": _LLAMA,
    "exaone4": Wiring(
        attention_norm=False, feed_forward_norm=False, head_norm=True, rope_windowed_only=True
    ),
    "falcon-h1": Wiring(both=True),
    "falcon": Wiring(parallel="last", fused_qkv=True, gate="none"),
    "gemma": _LLAMA,
    "gemma-embedding": Wiring(windows=True, encoder=True, head_norm=True),
    "gemma2": _GEMMA,
    "gemma3": replace(_GEMMA, head_norm=True),
    "gemma4": replace(_GEMMA, head_norm=True, value_norm=True),
    "gemma3n": replace(_GEMMA, head_norm=True, value_norm=True),
    "glm4": Wiring(gate="fused"),
    "glm4moe": Wiring(gating="sigmoid", scored_bias=True, head_norm=True),
    "gpt2": Wiring(rope=False, fused_qkv=True, gate="none", learned_positions=True),
    "gpt-oss": Wiring(windows=True, gating="chosen", normalized=False, late_rows=True),
    "gptneox": Wiring(parallel="own", fused_qkv=True, gate="none"),
    "granite": _LLAMA,
    "granitehybrid": _LLAMA,
    "granitemoe": _LLAMA,
    "grok": Wiring(flash=False),
    "hunyuan-dense": _HEAD_NORM,
    "internlm2": _LLAMA,
    "jais": Wiring(rope=False, fused_qkv=True),
    "jina-bert-v2": Wiring(encoder=True, norms_after=True, rope=False),
    "jina-bert-v3": Wiring(encoder=True, norms_after=True, fused_qkv=True, gate="none"),
    "lfm2": Wiring(residual_first=True, head_norm=True),
    "lfm2moe": Wiring(residual_first=True, head_norm=True),
    "jamba": Wiring(normalized=False, rope=False),
    "kimi-k3": replace(_SETTLED, exact=False),
    "kimi-linear": _SETTLED,
    "llama": _LLAMA,
    "llama-embed": _LLAMA,
    "mamba": _LLAMA,
    "mamba2": _LLAMA,
    "minicpm": _LLAMA,
    "minimax-01": Wiring(residual_normed=True),
    "mistral3": _LLAMA,
    "mpt": Wiring(rope=False, fused_qkv=True, gate="none"),
    "nemotron": _NO_GATE,
    "nemotron_h": Wiring(gate="none", rope=False),
    "nemotron_h_moe": Wiring(
        gate="none",
        expert_gate="none",
        shared_expert_gate="none",
        rope=False,
        gating="sigmoid",
        scored_bias=True,
    ),
    "nomic-bert": Wiring(encoder=True, norms_after=True, fused_qkv=True),
    "nomic-bert-moe": Wiring(
        encoder=True,
        norms_after=True,
        fused_qkv=True,
        gate="none",
        expert_gate="none",
        normalized=False,
    ),
    "olmo": Wiring(layer_norm=True, bare_norms=True),
    "olmo2": Wiring(attention_norm=False, feed_forward_norm=False),
    "olmoe": _CHOSEN,
    "phi2": Wiring(parallel="first", fused_qkv=True, gate="none"),
    "phi3": Wiring(fused_qkv=True, gate="fused", residual_first=True),
    "plamo": Wiring(parallel="last"),
    "qwen2": _LLAMA,
    "qwen2moe": Wiring(normalized=False, shared_gate=True),
    "qwen2vl": Wiring(axes=4),
    "qwen3": _HEAD_NORM,
    "qwen3moe": _HEAD_NORM,
    "qwen3next": Wiring(settled=True, query_gate=True, head_norm=True, shared_gate=True),
    "qwen35": Wiring(settled=True, query_gate=True, head_norm=True, axes=4),
    "qwen35moe": Wiring(settled=True, query_gate=True, head_norm=True, shared_gate=True, axes=4),
    "qwen3vl": Wiring(head_norm=True, axes=4),
    "qwen3vlmoe": Wiring(head_norm=True, axes=4),
    "refact": Wiring(rope=False),
    "rwkv6": Wiring(entry_norm=True, layer_norm=True, channel_mix="gated"),
    "rwkv6qwen2": _LLAMA,
    "rwkv7": Wiring(entry_norm=True, layer_norm=True, seventh=True, channel_mix="plain"),
    "arwkv7": Wiring(seventh=True),
    "seed_oss": _LLAMA,
    "smallthinker": Wiring(
        windows=True, rope_windowed_only=True, early_router=True, gating="sigmoid"
    ),
    "smollm3": Wiring(rope_skips=4),
    "stablelm": _LLAMA,
    "starcoder": Wiring(rope=False, fused_qkv=True, gate="none", learned_positions=True),
    "starcoder2": _NO_GATE,
    "t5": Wiring(relative=True, crossed=True, rope=False, all_rows=True),
    "t5encoder": Wiring(relative=True, rope=False),
    "talkie": Wiring(entry_norm=True, entry_kept=True, bare_norms=True),
}

_LIKE_LLAMA = frozenset(
    {
        "afmoe", "apertus", "baichuan", "bailingmoe", "bailingmoe2", "bailingmoe3", "chameleon",
        "chatglm", "codeshell", "dbrx", "deci", "deepseek2-ocr", "deepseek32", "dots1",
        "dots3note", "dream", "ernie4_5-moe", "eurobert", "exaone-moe", "glm-dsa",
        "granite_swa", "grovemoe", "hrm_text", "hunyuan-moe", "hunyuan_vl", "hy_v3", "jais2",
        "laguna", "llada", "llada-moe", "llama4", "maincoder", "maple", "mellum", "mimo2",
        "minicpm3", "minimax-m2", "minimax-m3", "mistral4", "modern-bert", "muse-glimmer",
        "nanbeige", "neo-bert", "openelm", "orion", "paddleocr", "pangu-embedded", "phimoe",
        "plamo3", "qwen", "rnd1", "spark2_5", "step35", "xverse",
    }
)  # fmt: skip

_ROUGHLY = frozenset(
    {
        "deepseek4", "dflash", "eagle3", "gemma4-assistant", "glm5-next", "gptj",
        "graniteswitch", "hy_v4", "plamo2", "plm", "pockettts",
        "qwen3tts", "qwen4exp", "wavtokenizer-dec",
    }
)  # fmt: skip
"""Their caches and states are known; their graphs have parts that are not replayed."""

_EVERY: dict[str, tuple[int, bool]] = {
    "afmoe": (4, False),
    "cohere2": (4, False),
    "cohere2moe": (4, True),
    "deepseek4": (0, False),
    "exaone-moe": (4, False),
    "exaone4": (4, False),
    "gemma-embedding": (6, False),
    "gemma2": (2, False),
    "gemma3": (6, False),
    "gemma3n": (5, False),
    "gpt-oss": (2, False),
    "laguna": (4, True),
    "lfm2": (0, False),
    "lfm2moe": (0, False),
    "llama4": (4, False),
    "mellum": (4, False),
    "modern-bert": (3, True),
    "muse-glimmer": (4, False),
    "olmo2": (4, False),
    "plamo3": (8, False),
    "smallthinker": (4, True),
}
"""Where the header lists no windows: of how many layers one sees all, and whether the first."""

_WINDOWS = {
    "exaone-moe": 128,
    "exaone4": 4096,
    "gemma2": 4096,
    "llama4": 8192,
    "smallthinker": 4096,
}
"""Windows where the header has none; Smallthinker's is the same whatever the header has."""

_WITHOUT_WINDOWS = frozenset({"phi3", "phimoe"})
"""llama.cpp ignores their windows."""

_WINDOWS_IF_LAYERS = {"exaone4": 64}

_WITHOUT_CACHE = frozenset(
    {
        "bert", "dream", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "llada",
        "llada-moe", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "rnd1",
        "wavtokenizer-dec",
    }
)  # fmt: skip

_FEED_FORWARD_NORMS = {"ffn_norm.weight", "ffn_norm", "attn_norm_2.weight"}
_POST_NORMS = {"post_attention_norm.weight", "post_ffw_norm.weight"}
"""Alone, the first of these is the norm before the feed-forward network; with the other, after
attention."""

_SIGMOID = 2
_LAYER = r"^.*\bblk\.\d+\."


def is_known(architecture: str) -> bool:
    """Whether there is a rule for an architecture."""
    return architecture in _ARCHITECTURES or architecture in _LIKE_LLAMA | _ROUGHLY


def wiring_of(hyper: Hyperparameters, tensors: Mapping[str, TensorInfo]) -> Wiring:
    """The wiring of an architecture; tensors, where they are known, overrule what is usual."""
    usual = Wiring(known=is_known(hyper.architecture), exact=hyper.architecture not in _ROUGHLY)
    wiring = _ARCHITECTURES.get(hyper.architecture, usual)
    if hyper.count("expert_gating_func") == _SIGMOID:
        wiring = replace(wiring, gating="sigmoid")
    if hyper.get("expert_weights_norm") is not None:
        wiring = replace(wiring, normalized=bool(hyper.get("expert_weights_norm")))
    at_once = derived.reads_all_at_once(hyper, tensors)
    if wiring.known:
        at_once = hyper.get("attention.causal") is False
    wiring = replace(
        wiring,
        encoder=hyper.architecture in _WITHOUT_CACHE
        or (wiring.relative and not wiring.crossed)
        or at_once,
        cached=hyper.architecture not in _WITHOUT_CACHE
        and (not at_once or wiring.known or derived.only_encodes(tensors)),
        windows=any(windowed_layers(hyper, min(hyper.count("block_count"), MAX_LAYERS), tensors)),
        layer_norm=wiring.layer_norm
        or (
            hyper.get("attention.layer_norm_epsilon") is not None
            and hyper.get("attention.layer_norm_rms_epsilon") is None
        ),
        pictures=hyper.count("n_deepstack_layers"),
        own_input=hyper.count("embedding_length_per_layer_input"),
    )
    if not tensors:
        return wiring
    suffixes = {re.sub(_LAYER, "", name): tensor for name, tensor in tensors.items()}
    has_norm = "ffn_norm.weight" in suffixes
    wiring = replace(
        wiring,
        fused_qkv="attn_qkv.weight" in suffixes and "attn_q.weight" not in suffixes,
        attention_norm=wiring.bare_norms or "attn_norm.weight" in suffixes,
        feed_forward_norm=wiring.bare_norms
        or bool(_FEED_FORWARD_NORMS & suffixes.keys())
        or len(_POST_NORMS & suffixes.keys()) == 1,
        parallel="sum" if hyper.architecture == "stablelm" and not has_norm else wiring.parallel,
        gate=_gate(hyper, suffixes),
        head_norm="attn_q_norm.weight" in suffixes,
        expert_gate=_expert_gate(suffixes),
        shared_expert_gate="separate" if "ffn_gate_shexp.weight" in suffixes else "none",
        state_norms="ssm_b_norm.weight" in suffixes,
        inner_norms="attn_sub_norm.weight" in suffixes,
        entry_norm=wiring.entry_norm,
        learned_positions="position_embd.weight" in tensors,
        scored_bias="exp_probs_b.bias" in suffixes,
        shared_gate="ffn_gate_inp_shexp.weight" in suffixes,
    )
    return wiring if wiring.known else derived.wiring(wiring, hyper, tensors, suffixes)


def _gate(hyper: Hyperparameters, suffixes: Mapping[str, TensorInfo]) -> Gate:
    up = suffixes.get("ffn_up.weight")
    if up is None or "ffn_gate.weight" in suffixes:
        return "separate"
    down = suffixes.get("ffn_down.weight")
    width = down.shape[0] if down and down.shape else hyper.count("feed_forward_length")
    return "fused" if up.shape[-1:] == (2 * width,) else "none"


def _expert_gate(suffixes: Mapping[str, TensorInfo]) -> Gate:
    if "ffn_gate_up_exps.weight" in suffixes:
        return "fused"
    has_own = "ffn_gate_exps.weight" in suffixes or "ffn_up_exps.weight" not in suffixes
    return "separate" if has_own else "none"


def window_of(hyper: Hyperparameters) -> int:
    """Tokens that a windowed layer looks back; 0 where a model has no such layers."""
    window = hyper.count("attention.sliding_window", _WINDOWS.get(hyper.architecture, 0))
    return _WINDOWS["smallthinker"] if window and hyper.architecture == "smallthinker" else window


def windowed_layers(
    hyper: Hyperparameters, count: int, tensors: Mapping[str, TensorInfo]
) -> list[bool]:
    """Which layers look only as far back as the model's window."""
    architecture = hyper.architecture
    needed = _WINDOWS_IF_LAYERS.get(architecture, hyper.count("block_count"))
    ignored = architecture in _WITHOUT_WINDOWS or hyper.count("block_count") != needed
    if not window_of(hyper) or ignored:
        return [False] * count
    pattern = hyper.get("attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        return [i < len(pattern) and bool(pattern[i]) for i in range(count)]
    every, first = _EVERY.get(architecture, (1, False))
    if not is_known(architecture):
        every = derived.window_period(tensors)
    every = hyper.count("attention.sliding_window_pattern", every)
    if every == 0:
        return [True] * count
    return [i % every != 0 if first else i % every < every - 1 for i in range(count)]
