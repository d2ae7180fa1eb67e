"""Configs of Transformers: what a cache depends on, for the architectures that there are."""

import json

import pytest

from modelrunner.errors import MalformedSafetensorsError
from modelrunner.safetensors.config import TransformersConfig
from tests.support.safetensors import config_json

QWEN_VL = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "torch_dtype": "bfloat16",
    "text_config": {
        "num_hidden_layers": 28,
        "hidden_size": 3584,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128000,
    },
    "vision_config": {"num_hidden_layers": 32},
}
DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "hidden_size": 7168,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3"},
}
GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "n_positions": 1024,
}
FALCON = {
    "architectures": ["FalconForCausalLM"],
    "num_hidden_layers": 32,
    "num_attention_heads": 71,
    "hidden_size": 4544,
    "multi_query": True,
}


def read(value: object) -> TransformersConfig:
    return TransformersConfig.parse(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("config", "context", "token"),
    [
        (json.loads(config_json()), 131072, 16 * 2 * 8 * 64),
        (QWEN_VL, 128000, 28 * 2 * 4 * 128),
        (DEEPSEEK, 163840, 61 * 576),
        (GPT2, 1024, 12 * 2 * 12 * 64),
        (FALCON, None, 32 * 2 * 1 * 64),
    ],
    ids=["Llama", "Qwen-VL", "DeepSeek (MLA)", "GPT-2", "Falcon (one head)"],
)
def test_a_token_of_the_cache_is_computed_for_every_kind(config, context, token) -> None:
    found = read(config)
    assert (found.context, found.cached(1), found.cached(100)) == (context, token, 100 * token)


def test_layers_with_a_window_keep_no_more_than_that() -> None:
    layers = {"num_hidden_layers": 4, "num_attention_heads": 2, "hidden_size": 64}
    listed = ["sliding_attention"] * 3 + ["full_attention"]
    for more in (
        {"layer_types": listed, "sliding_window": 512},
        {"sliding_window_pattern": 4, "sliding_window": 512},
    ):
        found = read({**layers, **more})
        assert found.cached(1000) == 128 * (3 * 512 + 1000)
        assert found.cached(1000, windows=False) == 128 * 4000
        assert found.cached(100) == 128 * 400


def test_layers_with_a_state_keep_nothing_of_the_context() -> None:
    layers = {"num_hidden_layers": 8, "num_attention_heads": 2, "hidden_size": 64}
    for more in (
        {"layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 2},
        {"full_attention_interval": 4},
        {"attn_layer_period": 4, "attn_layer_offset": 3},
    ):
        found = read({**layers, **more})
        assert (found.has_states, found.cached(10)) == (True, 128 * 20)


def test_an_encoder_has_no_cache() -> None:
    found = read({"architectures": ["BertModel"], "num_hidden_layers": 12})
    assert (found.is_known, found.cached(512)) == (True, 0)


@pytest.mark.parametrize(
    ("said", "name", "bits"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "GPTQ 4-bit", 4),
        ({"quantization_config": {"quant_method": "awq", "w_bit": 4}}, "AWQ 4-bit", 4),
        ({"quantization_config": {"quant_method": "fp8"}}, "FP8", None),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            "BITSANDBYTES 4-bit",
            4,
        ),
        (
            {"quantization_config": {"quant_method": "compressed-tensors"}},
            "COMPRESSED-TENSORS",
            None,
        ),
        ({"quantization": {"group_size": 64, "bits": 8}}, "MLX 8-bit", 8),
        ({"quantization_config": {"quant_method": "gptq", "bits": 10**30}}, "GPTQ", None),
        ({}, None, None),
    ],
)
def test_how_a_model_is_quantized_is_said(said, name, bits) -> None:
    found = read(said)
    assert (found.quantization, found.bits) == (name, bits)


@pytest.mark.parametrize("raw", [b"", b"[]", b"no JSON", b"[" * 100_000, b"{" + b" " * 5_000_000])
def test_a_config_that_cannot_be_read_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedSafetensorsError):
        TransformersConfig.parse(raw)


@pytest.mark.parametrize(
    "value",
    [
        {"num_hidden_layers": 10**9, "num_attention_heads": 1, "hidden_size": 64},
        {"num_hidden_layers": -1, "num_attention_heads": 1, "hidden_size": 64},
        {"num_hidden_layers": True, "num_attention_heads": 1, "hidden_size": 64},
        {"num_hidden_layers": "12", "num_attention_heads": 1, "hidden_size": 64},
        {"num_hidden_layers": 12, "num_attention_heads": 0, "hidden_size": 64},
        {"num_hidden_layers": 12},
        {"text_config": {"text_config": {"text_config": {}}}},
    ],
)
def test_numbers_that_make_no_sense_are_unknown(value: object) -> None:
    found = read(value)
    assert (found.is_known, found.cached(100)) == (False, None)


def test_what_a_config_says_is_safe_to_show() -> None:
    found = read({"architectures": ["\x1b[31mEvil\x07ForCausalLM"], "model_type": "x"})
    assert found.architecture == "EvilForCausalLM"


# As their publishers have them, with what the cache depends on. The figures are worked out by hand
# from vLLM's `kv_cache_interface.py` (`FullAttentionSpec`, `SlidingWindowSpec`, `MLAAttentionSpec`,
# `MambaSpec`): bytes of a token in bf16, of 32768 tokens in full and with windows, and of states.

MIB = 1024 * 1024
LLAMA_31_8B = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
}
QWEN3_8B = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "num_hidden_layers": 36,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "sliding_window": None,
    "use_sliding_window": False,
}
GEMMA_3_12B = {
    "model_type": "gemma3",
    "architectures": ["Gemma3ForConditionalGeneration"],
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 3840,
        "num_attention_heads": 16,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "sliding_window": 1024,
    },
}
GEMMA_3_4B = {
    "model_type": "gemma3",
    "architectures": ["Gemma3ForConditionalGeneration"],
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
}
GPT_OSS_20B = {
    "model_type": "gpt_oss",
    "architectures": ["GptOssForCausalLM"],
    "num_hidden_layers": 24,
    "hidden_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "max_position_embeddings": 131072,
}
MIXTRAL_8X7B = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "sliding_window": None,
}
MISTRAL_7B_01 = {
    **MIXTRAL_8X7B,
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "sliding_window": 4096,
}
GRANITE_4_H_MICRO = {
    "model_type": "granitemoehybrid",
    "architectures": ["GraniteMoeHybridForCausalLM"],
    "num_hidden_layers": 40,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "layer_types": (["mamba"] * 5 + ["attention"] + ["mamba"] * 4) * 4,
    "mamba_n_heads": 64,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "max_position_embeddings": 131072,
}
QWEN3_NEXT_80B = {
    "model_type": "qwen3_next",
    "architectures": ["Qwen3NextForCausalLM"],
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "full_attention_interval": 4,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "mamba_ssm_dtype": "float32",
    "max_position_embeddings": 262144,
}
NEMOTRON_H_8B = {
    "model_type": "nemotron_h",
    "architectures": ["NemotronHForCausalLM"],
    "num_hidden_layers": 52,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "ssm_state_size": 128,
    "n_groups": 8,
    "conv_kernel": 4,
    "max_position_embeddings": 8192,
}
PUBLISHED = {
    "Llama 3.1 8B": (LLAMA_31_8B, 131_072, 4096 * MIB, 4096 * MIB, 0),
    "Qwen3 8B": (QWEN3_8B, 147_456, 4608 * MIB, 4608 * MIB, 0),
    "Gemma 3 12B": (GEMMA_3_12B, 393_216, 12288 * MIB, 2368 * MIB, 0),
    "Gemma 3 4B": (GEMMA_3_4B, 139_264, 4352 * MIB, 756 * MIB, 0),
    "DeepSeek V3 (MLA)": (DEEPSEEK, 70_272, 2196 * MIB, 2196 * MIB, 0),
    "gpt-oss 20B": (GPT_OSS_20B, 49_152, 1536 * MIB, 771 * MIB, 0),
    "Mixtral 8x7B": (MIXTRAL_8X7B, 131_072, 4096 * MIB, 4096 * MIB, 0),
    "Mistral 7B v0.1": (MISTRAL_7B_01, 131_072, 4096 * MIB, 512 * MIB, 0),
    "Granite 4.0 H Micro": (GRANITE_4_H_MICRO, 8_192, 256 * MIB, 256 * MIB, 38_688_768),
    "Qwen3-Next 80B": (QWEN3_NEXT_80B, 24_576, 768 * MIB, 768 * MIB, 77_266_944),
    "Nemotron-H 8B": (NEMOTRON_H_8B, 16_384, 512 * MIB, 512 * MIB, 51_806_208),
}


@pytest.mark.parametrize(
    ("config", "token", "full", "windows", "states"), PUBLISHED.values(), ids=PUBLISHED
)
def test_caches_of_published_models_are_those_of_vllm(config, token, full, windows, states) -> None:
    found = read(config)
    assert 2 * found.cached(1) == token
    assert 2 * found.cached(32768, windows=False) == full
    assert 2 * found.cached(32768) == windows
    assert found.states(2) == states


def test_states_of_other_layers() -> None:
    jamba = {
        "num_hidden_layers": 8,
        "num_attention_heads": 2,
        "hidden_size": 64,
        "attn_layer_period": 8,
        "attn_layer_offset": 4,
        "mamba_expand": 2,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
    }
    assert read(jamba).states(2) == 7 * 2 * (3 * 128 + 128 * 16)
    short = {
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "hidden_size": 64,
        "layer_types": ["conv", "conv", "full_attention"],
        "conv_L_cache": 3,
    }
    assert read(short).states(2) == 2 * 2 * (2 * 64)
    unknown = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 64}
    assert read({**unknown, "layer_types": ["recurrent", "attention"]}).states(2) is None
