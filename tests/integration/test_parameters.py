"""Every setting reaches llama.cpp: our mapping for xllamacpp against llama.cpp's own parser.

The parser reads what `llama-server` would get, so both mappings are held against each other, and
against the value that is expected.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.runtime.base import LaunchSpec, LoraAdapter
from modelrunner.runtime.child import handshake
from modelrunner.runtime.sampling import Sampling
from modelrunner.runtime.settings import KNOWN, parse
from tests.support.modules import folder_of

ROOT = Path(__file__).parents[2]
CASES = {
    "context=8192": ("n_ctx", 8192),
    "kv-type-k=q8_0": ("cache_type_k", 8),
    "kv-type-v=q8_0": ("cache_type_v", 8),
    "kv-type=q4_0": ("cache_type_v", 2),
    "flash-attention=on": (
        "flash_attn_type",
        1,
    ),
    "threads=3": ("cpuparams.n_threads", 3),
    "gpu-layers=7": ("n_gpu_layers", 7),
    "parallel=2": ("n_parallel", 2),
    "batch=300": ("n_batch", 300),
    "micro-batch=100": ("n_ubatch", 100),
    "mmap=off": ("load_mode", 0),
    "mlock=on": ("load_mode", 3),
    "draft-tokens=5": ("speculative.draft.n_max", 5),
    "rope-scaling=yarn": (
        "rope_scaling_type",
        2,
    ),
    "rope-scale=4": ("rope_freq_scale", 0.25),
    "rope-freq-base=50000": ("rope_freq_base", 50000.0),
    "main-gpu=2": ("main_gpu", 2),
    "split-mode=row": ("split_mode", 2),
    "tensor-split=3,1": ("tensor_split", [3.0, 1.0, *([0.0] * 126)]),
    "n-cpu-moe=2": (
        "tensor_buft_overrides",
        (
            r"blk\.0\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU,"
            r"blk\.1\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"
        ),
    ),
    "swa-full=on": ("swa_full", True),
    "kv-unified=on": ("kv_unified", True),
    "kv-unified=off": ("kv_unified", False),
    "cache-ram=77": ("cache_ram_mib", 77),
    "checkpoints=3": ("n_ctx_checkpoints", 3),
    'chat-template-kwargs={"depth":2,"mood":"dry","on":false}': (
        "default_template_kwargs",
        {"depth": "2", "mood": '"dry"', "on": "false"},
    ),
    "temperature=0.25": ("sampling.temp", 0.25),
    "top-k=7": ("sampling.top_k", 7),
    "top-p=0.5": ("sampling.top_p", 0.5),
    "min-p=0.125": ("sampling.min_p", 0.125),
    "xtc-probability=0.5": ("sampling.xtc_probability", 0.5),
    "xtc-threshold=0.25": ("sampling.xtc_threshold", 0.25),
    "repeat-last-n=32": ("sampling.penalty_last_n", 32),
    "repeat-penalty=1.5": ("sampling.penalty_repeat", 1.5),
    "presence-penalty=-0.5": ("sampling.penalty_present", -0.5),
    "frequency-penalty=0.5": ("sampling.penalty_freq", 0.5),
    "mirostat=2": ("sampling.mirostat", 2),
    "mirostat-tau=3.5": ("sampling.mirostat_tau", 3.5),
    "mirostat-eta=0.5": ("sampling.mirostat_eta", 0.5),
    "seed=42": ("sampling.seed", 42),
}

ELSEWHERE = {
    # files, which are found first
    *("draft", "lora", "chat-template"),
    # what it comes to depends on the model's chat template
    "think",
    # the parser alone takes these, see below, and the last one is for requests
    *("device", "rpc", "system"),
}

# what the parser adds by itself, or takes over from the model for its draft
OWN_WORDS = {"diffusion", "speculative.draft.cpuparams.n_threads"}
OWN_WORDS |= {"speculative.draft.cpuparams_batch.n_threads"}


def spec_of(*assignments: str, **more) -> LaunchSpec:
    request = LaunchRequest.of({"threads": 2, **parse(assignments)}, **more)
    return request.spec(ROOT / "m.gguf", "m", request.context or 512)


def probed(specs: list[LaunchSpec]) -> list[list[dict[str, object]]]:
    folder_of("xllamacpp")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.params_probe"],
        input=json.dumps([handshake.dump(spec) for spec in specs]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[list[dict[str, object]]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def parameters() -> dict[str, list[dict[str, object]]]:
    """Both ways, for every case: one process for all."""
    made = [spec_of(case) for case in CASES]
    return dict(zip(CASES, probed(made), strict=True))


def without_reasoning(found: dict[str, object]) -> dict[str, object]:
    # the parser always says whether thoughts of earlier turns are kept
    kwargs = found["default_template_kwargs"]
    assert isinstance(kwargs, dict)
    kwargs.pop("preserve_reasoning", None)
    return found


def test_every_setting_has_a_case():
    tested = {key for case in CASES for key in parse([case])}
    assert tested | ELSEWHERE == {*KNOWN}


@pytest.mark.parametrize("case", CASES)
def test_a_setting_reaches_llama_cpp_by_either_way(parameters, case):
    name, value = CASES[case]
    own, parsed = map(without_reasoning, parameters[case])
    assert (own[name], parsed[name]) == (value, value)
    differing = {key for key in own if own[key] != parsed[key]}
    assert differing <= OWN_WORDS


def test_adapters_and_drafts_reach_llama_cpp_by_either_way(tmp_path):
    one, two = LoraAdapter(tmp_path / "a.gguf"), LoraAdapter(tmp_path / "b.gguf", 0.5)
    plain = spec_of()
    mtp, ngram = (replace(plain, draft_kind=kind) for kind in ("draft-mtp", "ngram-simple"))
    model = replace(plain, draft_kind="draft-simple", draft_model=tmp_path / "d.gguf")
    eagle = replace(model, draft_kind="draft-eagle3")
    specs = [replace(plain, adapters=(one, two)), mtp, ngram, model, eagle]
    loras, *drafts = probed(specs)
    for found in loras:
        assert found["lora_adapters"] == [[str(one.path), 1.0], [str(two.path), 0.5]]
    for number, pair in zip((3, 6, 1, 2), drafts, strict=True):
        for found in pair:
            # the parser leaves "none" before it
            assert [kind for kind in found["speculative.types"] if kind] == [number]
    for pair in drafts[2:]:
        for found in pair:
            assert found["speculative.draft.mparams.path"] == str(tmp_path / "d.gguf")


def test_flags_and_devices_reach_the_embedded_llama_cpp_by_its_own_parser():
    flags = ("--no-warmup", "--temp", "0.125", "--override-tensor", "output=CPU")
    wanted = replace(
        spec_of(),
        devices=("none",),
        raw_flags=flags,
        sampling=Sampling(temperature=1.0),
    )
    _, parsed = probed([wanted])[0]
    assert (parsed["warmup"], parsed["tensor_buft_overrides"]) == (False, "output=CPU")
    # what was written by hand counts more
    assert parsed["sampling.temp"] == 0.125


def test_a_limit_of_thoughts_reaches_llama_cpp_by_either_way():
    for found in probed([replace(spec_of(), thinking_budget=300)])[0]:
        assert found["sampling.reasoning_budget_tokens"] == 300
