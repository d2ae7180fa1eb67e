"""What llama-server is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.runtime.backends.arguments import arguments, environment, load_mode
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.sampling import Sampling

SPEC = LaunchSpec(
    model=Path("/models/m.gguf"), name="ai/m:1B", context=4096, threads=3, api_key="the-key"
)


def test_command_line_says_all_that_was_settled():
    assert arguments(SPEC, 8123) == [
        *("--model", "/models/m.gguf"),
        *("--alias", "ai/m:1B"),
        *("--host", "127.0.0.1"),
        *("--port", "8123"),
        *("--ctx-size", "4096"),
        *("--parallel", "1"),
        *("--threads", "3"),
        *("--batch-size", "2048"),
        *("--ubatch-size", "512"),
        *("--cache-type-k", "f16"),
        *("--cache-type-v", "f16"),
        "--jinja",
    ]


def test_keys_and_values_may_be_kept_in_different_types():
    line = arguments(replace(SPEC, cache_type_k="q8_0", cache_type_v="q4_0"), 1)
    assert line[line.index("--cache-type-k") + 1] == "q8_0"
    assert line[line.index("--cache-type-v") + 1] == "q4_0"


def test_draft_model_is_said_to_be_one_where_a_build_asks_for_its_kind():
    drafted = replace(SPEC, draft_model=Path("/models/d.gguf"))
    assert environment(drafted)["LLAMA_ARG_SPEC_TYPE"] == "draft-simple"
    assert "LLAMA_ARG_SPEC_TYPE" not in environment(SPEC)


def test_every_conversation_gets_the_context_asked_for():
    line = arguments(replace(SPEC, context=4096, parallel=4), 1)
    assert line[line.index("--ctx-size") + 1] == "16384"
    assert line[line.index("--parallel") + 1] == "4"


@pytest.mark.parametrize(
    ("change", "tail"),
    [
        ({"gpu_layers": 0}, ["--n-gpu-layers", "0"]),
        ({"flash_attention": "on"}, ["--flash-attn", "on"]),
        ({"flash_attention": "off"}, ["--flash-attn", "off"]),
        ({"mmproj": Path("/models/p.gguf")}, ["--mmproj", "/models/p.gguf"]),
        ({"adapter": Path("/models/l.gguf")}, ["--lora", "/models/l.gguf"]),
        ({"chat_template": Path("/t.jinja")}, ["--chat-template-file", "/t.jinja"]),
        ({"embedding": True}, ["--embeddings"]),
        ({"draft_model": Path("/models/d.gguf")}, ["--model-draft", "/models/d.gguf"]),
        ({"draft_tokens": 4}, ["--spec-draft-n-max", "4"]),
        ({"rope_scaling": "yarn"}, ["--rope-scaling", "yarn"]),
        ({"rope_scale": 2.5}, ["--rope-scale", "2.5"]),
        ({"rope_freq_base": 1e6}, ["--rope-freq-base", "1e+06"]),
        ({"rpc": "a:1,b:2"}, ["--rpc", "a:1,b:2"]),
        ({"raw_flags": ("--no-warmup", "-v")}, ["--no-warmup", "-v"]),
    ],
)
def test_what_is_asked_for_comes_after_what_is_always_there(change, tail):
    assert arguments(replace(SPEC, **change), 1) == [*arguments(SPEC, 1), *tail]


def test_relative_paths_become_absolute_because_the_child_starts_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    line = arguments(replace(SPEC, model=Path("m.gguf")), 1)
    assert line[:2] == ["--model", str(tmp_path / "m.gguf")]


def test_key_is_in_the_environment_and_not_on_the_command_line():
    assert "the-key" not in " ".join(arguments(SPEC, 1))
    assert environment(SPEC)["LLAMA_API_KEY"] == "the-key"
    assert "LLAMA_API_KEY" not in environment(replace(SPEC, api_key=""))


def test_web_page_and_network_are_switched_off_under_old_names_and_new():
    variables = environment(SPEC)
    assert (variables["LLAMA_ARG_UI"], variables["LLAMA_ARG_NO_WEBUI"]) == ("0", "1")
    assert variables["LLAMA_ARG_CORS_ORIGINS"] == "localhost"
    assert variables["LLAMA_ARG_OFFLINE"] == "1"


def test_the_web_page_is_there_where_it_is_asked_for_and_nothing_else_is_opened():
    asked = environment(replace(SPEC, ui=True))
    assert (asked.pop("LLAMA_ARG_UI"), asked.pop("LLAMA_ARG_WEBUI")) == ("1", "1")
    closed = environment(SPEC)
    for name in ("LLAMA_ARG_UI", "LLAMA_ARG_WEBUI", "LLAMA_ARG_NO_WEBUI"):
        del closed[name]
    assert asked == closed


@pytest.mark.parametrize(
    ("memory_map", "memory_lock", "mode"),
    [
        (True, False, "auto"),
        (False, False, "none"),
        (False, True, "mlock"),
        (True, True, "mmap+mlock"),
    ],
)
def test_load_mode_says_how_weights_get_into_memory(memory_map, memory_lock, mode):
    spec = replace(SPEC, memory_map=memory_map, memory_lock=memory_lock)
    assert load_mode(spec) == mode
    variables = environment(spec)
    assert variables.get("LLAMA_ARG_LOAD_MODE", "auto") == mode
    assert ("LLAMA_ARG_NO_MMAP" in variables) is not memory_map
    assert ("LLAMA_ARG_MLOCK" in variables) is memory_lock


def test_sampling_is_said_in_the_words_of_llama_servers_options():
    sampling = Sampling(temperature=0.6, top_k=20, repeat_last_n=64, mirostat=2, mirostat_tau=4.5)
    assert arguments(replace(SPEC, sampling=sampling), 1)[-10:] == [
        *("--temp", "0.6"),
        *("--top-k", "20"),
        *("--repeat-last-n", "64"),
        *("--mirostat", "2"),
        *("--mirostat-ent", "4.5"),
    ]


def test_thinking_is_asked_for_by_values_of_the_template_and_a_budget():
    spec = replace(SPEC, template_arguments='{"enable_thinking": false}', thinking_budget=0)
    assert arguments(spec, 1)[-2:] == ["--chat-template-kwargs", '{"enable_thinking": false}']
    assert environment(spec)["LLAMA_ARG_THINK_BUDGET"] == "0"
    assert "LLAMA_ARG_THINK_BUDGET" not in environment(SPEC)
