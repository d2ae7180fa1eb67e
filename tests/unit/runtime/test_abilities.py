"""What a runtime cannot do is said before it starts, and by whom it could be done."""

from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.errors import UsageError
from modelrunner.runtime.abilities import needed_for, require_for
from modelrunner.runtime.base import Ability, LaunchSpec, LoraAdapter
from modelrunner.runtime.select import known

SPEC = LaunchSpec(model=Path("/m.gguf"), name="m", context=512, threads=1, api_key="")
RUNTIMES = {runtime.name: runtime for runtime in known({})}
ASKED = [
    ({"draft_model": Path("/d.gguf")}, Ability.DRAFT),
    ({"draft_tokens": 4}, Ability.DRAFT),
    ({"rope_scaling": "yarn"}, Ability.ROPE),
    ({"rope_freq_base": 1e6}, Ability.ROPE),
    ({"mmproj": Path("/p.gguf")}, Ability.PROJECTOR),
    ({"adapter": Path("/l.gguf")}, Ability.ADAPTER),
    ({"embedding": True}, Ability.EMBEDDING),
    ({"raw_flags": ("--no-warmup",)}, Ability.RAW_FLAGS),
    ({"rpc": "gpu-1:50052"}, Ability.RPC),
    ({"ui": True}, Ability.PAGE),
    ({"draft_kind": "ngram-simple"}, Ability.DRAFT),
    ({"adapters": (LoraAdapter(Path("/l.gguf"), 0.5),)}, Ability.SCALED_ADAPTERS),
    ({"devices": ("CUDA0",)}, Ability.DEVICES),
    ({"main_gpu": 0}, Ability.SPLIT),
    ({"split_mode": "row"}, Ability.SPLIT),
    ({"tensor_split": (3.0, 1.0)}, Ability.SPLIT),
    ({"cpu_moe_layers": 4}, Ability.CPU_MOE),
    ({"swa_full": True}, Ability.WHOLE_WINDOW),
    ({"kv_unified": False}, Ability.UNIFIED_CACHE),
    ({"cache_ram": 0}, Ability.PROMPT_CACHE),
    ({"checkpoints": 0}, Ability.CHECKPOINTS),
    ({"template_arguments": "{}"}, Ability.TEMPLATE_ARGUMENTS),
    ({"thinking_budget": 0}, Ability.LIMITS_THOUGHTS),
]


def test_usual_start_needs_nothing_special():
    assert list(needed_for(SPEC)) == []


@pytest.mark.parametrize(("change", "ability"), ASKED)
@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_takes_what_it_can_and_refuses_the_rest(name, change, ability):
    spec = replace(SPEC, **change)
    assert list(needed_for(spec)) == [ability]
    if ability in RUNTIMES[name].abilities:
        require_for(RUNTIMES[name], spec)
    else:
        with pytest.raises(UsageError) as caught:
            require_for(RUNTIMES[name], spec)
        assert caught.value.message == f"{name} does not offer {ability}"
        assert "--runtime llama-server" in caught.value.hint
        assert f"--runtime {name}" not in caught.value.hint


def test_the_hint_names_two_runtimes_that_can():
    with pytest.raises(UsageError) as caught:
        require_for(RUNTIMES["llama-cpp-python"], replace(SPEC, raw_flags=("--foo",)))
    assert caught.value.hint == "use --runtime installed or --runtime llama-server"


@pytest.mark.parametrize("name", ["xllamacpp", "llama-cpp-python"])
def test_start_itself_refuses_it(name, tmp_path):
    runtime = RUNTIMES[name]
    if not runtime.availability().available:
        pytest.skip(f"needs {name}")
    with pytest.raises(UsageError, match=f"{name} does not offer RPC servers"):
        runtime.start(replace(SPEC, rpc="gpu-1:50052"), tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_llama_cpp_python_refuses_values_for_the_template_of_a_model_with_images(tmp_path):
    spec = replace(SPEC, mmproj=Path("/p.gguf"), template_arguments="{}")
    with pytest.raises(UsageError) as caught:
        RUNTIMES["llama-cpp-python"].start(spec, tmp_path / "log")
    assert caught.value.message == (
        "llama-cpp-python does not offer values for the chat template of a model with images"
    )
