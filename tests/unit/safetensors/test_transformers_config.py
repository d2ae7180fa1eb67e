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
