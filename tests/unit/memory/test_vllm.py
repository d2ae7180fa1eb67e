"""Memory of a model that vLLM runs: weights, and the KV cache of a use."""

import pytest

from modelrunner.errors import UsageError
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.plan.load import Load
from modelrunner.memory.vllm import (
    BESIDE,
    ServedShape,
    cache_type,
    estimate_served,
    fit_served,
    longest,
)
from modelrunner.safetensors.config import TransformersConfig
from tests.support.safetensors import config_json

GIB = 1024**3
LLAMA = TransformersConfig.parse(config_json())
SHAPE = ServedShape(2 * GIB, LLAMA)


def load(tokens: int, parallel: int = 1, kind: str = "bf16") -> Load:
    return Load(tokens * parallel, kind, parallel)


def test_the_cache_is_that_of_all_conversations() -> None:
    one, four = (estimate_served(SHAPE, load(8192, count)) for count in (1, 4))
    assert (one.weights, one.kv_cache, one.total) == (2 * GIB, GIB // 4, 2 * GIB + GIB // 4)
    assert (four.kv_cache, four.source) == (GIB, "config")
    assert (one.low, one.high) == (one.total, one.total + BESIDE)
    assert estimate_served(SHAPE, load(8192, kind="f32")).kv_cache == GIB // 2


def test_a_context_is_whole_blocks() -> None:
    assert estimate_served(SHAPE, load(1)).kv_cache == 16 * 32 * 1024


@pytest.mark.parametrize(
    ("room", "verdict"), [(5, "fits"), (4, "maybe"), (2, "no")], ids=["fits", "maybe", "no"]
)
def test_the_verdict_goes_by_the_range(room: int, verdict: str) -> None:
    found = fit_served(SHAPE, load(8192), room * GIB)
    assert (found.verdict, found.budget_bytes) == (verdict, room * GIB)


def test_gpus_count_before_the_host_which_holds_a_part() -> None:
    gpu = Device("gpu", "gpu", 4 * GIB, 3 * GIB, "cuda")
    host = Device("host", "host", 64 * GIB, 32 * GIB, "cpu")
    assert fit_served(SHAPE, load(8192), [gpu, host]).verdict == "maybe"
    assert fit_served(SHAPE, load(65536), [gpu, host]).verdict == "partial"
    assert fit_served(SHAPE, load(8192), [host]).verdict == "fits"


def test_the_longest_context_certainly_fits_or_else_may() -> None:
    assert longest(SHAPE, load(1), 100 * GIB) == 131072
    tokens = longest(SHAPE, load(1, parallel=2), 6 * GIB)
    assert tokens == 32768
    assert longest(SHAPE, load(1), 3 * GIB) == 32768
    assert longest(SHAPE, load(1), GIB) is None


def test_without_a_config_the_weights_alone_are_known() -> None:
    shape = ServedShape(2 * GIB, None)
    found = estimate_served(shape, load(8192))
    assert (found.total, found.high, found.notes) == (
        2 * GIB,
        None,
        ("config.json not found: only the weights are known",),
    )
    assert fit_served(shape, load(8192), 8 * GIB).verdict == "unknown"
    assert fit_served(shape, load(8192), GIB).verdict == "no"
    assert longest(shape, load(1), 8 * GIB) is None


def test_the_cache_has_the_type_of_the_weights_unless_asked_for() -> None:
    assert cache_type(LLAMA, None) == "bf16"
    assert cache_type(TransformersConfig(dtype="F32"), None) == "f32"
    assert cache_type(None, None) == "f16"
    assert cache_type(LLAMA, "f16") == "f16"
    for asked in (("q8_0", None), ("f16", "f32")):
        with pytest.raises(UsageError):
            cache_type(LLAMA, *asked)
