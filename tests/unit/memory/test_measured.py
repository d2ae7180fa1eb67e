"""llama.cpp's own plan, asked in a child that may fail in any way."""

import json
import sys

import pytest

from benchmarks.accuracy import DATA
from benchmarks.model_headers import write
from modelrunner.errors import RuntimeFailedError, RuntimeUnavailableError
from modelrunner.gguf.reader import read_header
from modelrunner.memory import measured
from modelrunner.memory.estimate import estimate
from modelrunner.memory.measured import measure
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load
from modelrunner.system.installation import add
from tests.support.gguf import tiny_gguf

MODELS = {model["name"]: model for model in json.loads((DATA / "models.json").read_text())}


@pytest.fixture
def python(tmp_path):
    """Makes an interpreter that does as told instead."""

    def make(script: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -SEGV $$", "llama.cpp cannot estimate m.gguf: exit code -11"),
        (
            "echo 'unknown architecture' >&2; exit 1",
            "llama.cpp cannot estimate m.gguf: unknown architecture",
        ),
        (
            "test $GGML_NO_BACKTRACE && echo 'GGML_ASSERT(x) failed' >&2; kill -ABRT $$",
            "llama.cpp cannot estimate m.gguf: GGML_ASSERT(x) failed",
        ),
        ("echo nonsense", "llama.cpp cannot estimate m.gguf: exit code 0"),
        ("echo '{}'", "llama.cpp cannot estimate m.gguf: exit code 0"),
    ],
    ids=["crashes", "refuses", "gives up", "babbles", "says nothing"],
)
def test_a_child_that_fails_is_a_failure_with_a_name(tmp_path, python, script, message):
    with pytest.raises(RuntimeFailedError) as caught:
        measure(tmp_path / "m.gguf", Load(4096), python=python(script))
    assert caught.value.message == message


def test_a_child_that_hangs_is_a_failure_with_a_name(tmp_path, python):
    with pytest.raises(RuntimeFailedError) as caught:
        measure(tmp_path / "m.gguf", Load(4096), python=python("exec sleep 60"), deadline=0.1)
    assert caught.value.message == "llama.cpp did not estimate m.gguf within 0 s"


def test_the_parts_that_a_child_tells_are_the_estimate(tmp_path, python):
    parts = {"weights": 1, "kv_cache": 2, "recurrent": 3, "compute": 4, "output": 5}
    found = measure(
        tmp_path / "m.gguf", Load(4096), projector=6, python=python(f"echo '{json.dumps(parts)}'")
    )
    assert (found.total, found.low, found.high, found.source) == (21, 21, 21, "measured")


def test_without_the_library_the_hint_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "is_available", lambda: False)
    with pytest.raises(RuntimeUnavailableError) as caught:
        measure(tmp_path / "m.gguf", Load(4096), python=sys.executable)
    assert caught.value.hint == f"`{add('llama-cpp-python')}`"


ASKS = pytest.mark.skipif(not measured.is_available(), reason="needs llama-cpp-python")
DRIFT = 0.03
"""How far the header's estimate may be from the plan of the llama.cpp that is installed."""


@ASKS
@pytest.mark.real
@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_estimate_and_the_plan_have_not_drifted_apart(tmp_path, shapes, name):
    path = tmp_path / "model.gguf"
    write(MODELS[name], path)
    plan = measure(path, Load(8192))
    assert estimate(shapes[name], Load(8192)).total == pytest.approx(plan.total, rel=DRIFT)


@ASKS
@pytest.mark.real
@pytest.mark.parametrize(
    "load",
    [
        Load(131072),
        Load(32768, kv_type="q8_0"),
        Load(8192, kv_type="q8_0", kv_type_v="f16"),
        Load(8192, kv_type="f32", kv_type_v="q4_0"),
        Load(8192, parallel=4),
        Load(8192, micro_batch=2048),
        Load(8192, flash_attention=False),
    ],
    ids=[
        "long",
        "quantized cache",
        "quantized keys",
        "quantized values",
        "parallel",
        "large batch",
        "no flash attention",
    ],
)
@pytest.mark.parametrize("name", ["granite-4.0-h-micro", "gemma3-270m", "qwen3-1.7b"])
def test_they_have_not_drifted_apart_for_another_use_either(tmp_path, shapes, name, load):
    path = tmp_path / "model.gguf"
    write(MODELS[name], path)
    plan = measure(path, load)
    assert estimate(shapes[name], load).total == pytest.approx(plan.total, rel=DRIFT)


@ASKS
def test_they_have_not_drifted_apart_for_the_smallest_model_there_is(tmp_path):
    path = tiny_gguf(tmp_path / "tiny.gguf")
    plan = measure(path, Load(2048))
    found = estimate(ModelShape.from_header(read_header(path)), Load(2048))
    assert found.total == pytest.approx(plan.total, rel=DRIFT)
