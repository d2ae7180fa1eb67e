"""What settings do to a real embedded llama.cpp, beyond reaching its parameters."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.errors import RuntimeFailedError
from modelrunner.runtime.backends.xllamacpp import XLlamaCpp
from modelrunner.runtime.base import LaunchSpec, LoraAdapter
from tests.support.asking import asked
from tests.support.gguf import F32, Typed, encode_gguf
from tests.support.modules import folder_of

KEY = "a-key-for-this-test-only"
LOAD_S = 120
TEMPLATE = "{{ mood | default('none') }}:{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture
def spec(tiny_models) -> LaunchSpec:
    return LaunchSpec(
        model=tiny_models["llama"], name="tiny", context=512, threads=1, batch=64, micro_batch=64,
        api_key=KEY,
    )  # fmt: skip


def served(spec: LaunchSpec, folder: Path):
    folder_of("xllamacpp")
    return XLlamaCpp(dict(os.environ)).start(spec, folder / "log")


def lora(path: Path, *, architecture: str = "llama", seed: int = 7) -> Path:
    """An adapter for the first layer's queries of the tiny model."""
    path.write_bytes(
        encode_gguf(
            architecture=architecture,
            metadata={
                "general.type": "adapter",
                "adapter.type": "lora",
                "adapter.lora.alpha": Typed("float32", 4.0),
            },
            tensors=[
                ("blk.0.attn_q.weight.lora_a", (128, 4), F32),
                ("blk.0.attn_q.weight.lora_b", (4, 128), F32),
            ],
            seed=seed,
        )
    )
    return path


def test_adapters_are_applied_each_with_its_scale(spec, tmp_path):
    one, two = lora(tmp_path / "one.gguf"), lora(tmp_path / "two.gguf", seed=8)
    wanted = replace(spec, adapters=(LoraAdapter(one), LoraAdapter(two, 0.5)))
    with served(wanted, tmp_path) as server:
        server.wait_until_ready(LOAD_S)
        found = asked(server, "GET", "/lora-adapters")
    assert [(entry["path"], entry["scale"]) for entry in found] == [
        (str(one), 1.0),
        (str(two), 0.5),
    ]
    assert server.placement().held[0].bytes["weights"] > spec.model.stat().st_size // 2


def test_the_cache_of_prompts_the_checkpoints_and_the_one_cache_are_as_asked_for(spec, tmp_path):
    wanted = replace(spec, cache_ram=77, checkpoints=3, kv_unified=True, parallel=2)
    with served(wanted, tmp_path) as server:
        server.wait_until_ready(LOAD_S)
        log = server.log.read_text(errors="replace")
    assert "prompt cache is enabled, size limit: 77 MiB" in log
    assert "kv_unified = 'true'" in log
    assert "n_slots = 2" in log


def test_the_template_gets_its_values_and_a_request_counts_more(spec, tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text(TEMPLATE)
    wanted = replace(spec, chat_template=template, template_arguments='{"mood":"dry"}')
    body = {"messages": [{"role": "user", "content": "hi"}]}
    with served(wanted, tmp_path) as server:
        server.wait_until_ready(LOAD_S)
        usual = asked(server, "POST", "/apply-template", body)
        other = {**body, "chat_template_kwargs": {"mood": "gay"}}
        said = asked(server, "POST", "/apply-template", other)
    assert (usual["prompt"], said["prompt"]) == ("dry:hi", "gay:hi")


def test_the_seed_is_that_of_requests_that_have_none(spec, tmp_path):
    with served(replace(spec, seed=42), tmp_path) as server:
        server.wait_until_ready(LOAD_S)
        found = asked(server, "POST", "/completion", {"prompt": [3, 4], "n_predict": 1})
    assert found["generation_settings"]["seed"] == 42


def test_tokens_are_guessed_from_the_text_so_far(spec, tmp_path):
    with served(replace(spec, draft_kind="ngram-simple"), tmp_path) as server:
        server.wait_until_ready(LOAD_S)
        assert asked(server, "POST", "/completion", {"prompt": [3, 4], "n_predict": 8})["content"]
        log = server.log.read_text(errors="replace")
    assert "ngram-simple" in log
    assert "no implementations specified for speculative decoding" not in log


def test_a_flag_reaches_the_embedded_llama_cpp_and_the_rest_stays_as_it_is(spec, tmp_path):
    flags = ("--no-warmup", "--temp", "0.125", "--metrics")
    with served(replace(spec, raw_flags=flags, devices=("none",)), tmp_path) as server:
        server.wait_until_ready(LOAD_S)
        assert server.context == 512
        found = asked(server, "POST", "/completion", {"prompt": [3, 4], "n_predict": 1})
        assert found["generation_settings"]["temperature"] == 0.125
        # what nobody has asked for stays closed, and the key is asked for
        assert asked(server, "GET", "/props").get("error", {}).get("code") is None
        assert asked(server, "GET", "/slots")["error"]["code"] == 501
        log = server.log.read_text(errors="replace")
    assert "warming up" not in log


@pytest.mark.parametrize("flags", [("--no-such-flag",), ("--ctx-size", "many"), ("--top-k",)])
def test_a_flag_that_llama_cpp_does_not_take_is_named(spec, tmp_path, flags):
    server = served(replace(spec, raw_flags=flags), tmp_path)
    with pytest.raises(RuntimeFailedError, match=flags[0]):
        server.wait_until_ready(LOAD_S)
