"""What each device holds, against llama.cpp's own plan for GPUs that exist only for its planner."""

import json
from functools import cache

import pytest

from benchmarks.accuracy import DATA
from benchmarks.model_headers import header
from modelrunner.memory.devices.device import Device
from modelrunner.memory.fit import GPU_RESERVE, fit
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load
from modelrunner.memory.schedule import Placement, compute_by_device
from modelrunner.memory.split import Share, placement, shares_of
from modelrunner.runtime.backends.arguments import GPU_MARGIN_MIB

MIB = 1024 * 1024


@cache
def shape_of(name):
    models = json.loads((DATA / "offload_models.json").read_text())
    return ModelShape.from_header(header(next(x for x in models if x["name"] == name)))


def held(name, context, free, layers):
    """Bytes of each GPU and of the host."""
    shape = shape_of(name)
    placed = placement(shape, free, layers=layers, experts=0, shares=())
    return shares_of(shape, Load(context), placed)


def test_two_gpus_hold_what_llama_cpp_gives_them():
    first, second, host = held("llama-3.1-8b", 16384, [3687, 3687], 33)
    assert (first.layers, second.layers, host.layers) == (17, 16, 0)
    # what it printed: model, context, compute
    assert first == Share(17, 2215936000 + 1140850688, 213950464)
    assert second == Share(16, 2401460224 + 1006632960, 247505408)
    assert host.compute == 109101184


@pytest.mark.parametrize(
    ("name", "context", "free", "used"),
    [
        ("qwen3-30b-a3b", 16384, [9964, 9964], [9939, 9464]),
        ("qwen3-30b-a3b", 40960, [5799, 5799, 5799, 5799], [6054, 5456, 5456, 5484]),
        ("gemma3-27b", 131072, [13943, 13943], [13716, 14393]),
        ("gemma3-27b", 16384, [9608, 4804, 4804], [8788, 4549, 5225]),
        ("granite-4.0-h-small", 131072, [19784, 2198], [19654, 2011]),
        ("deepseek-v2-lite", 131072, [8360, 4180, 4180], [7925, 4460, 4078]),
    ],
)
def test_several_gpus_hold_what_llama_cpp_plans(name, context, free, used):
    layers = len(shape_of(name).layers) + 1
    found = held(name, context, free, layers)[:-1]
    differences = [share.total / MIB - each for share, each in zip(found, used, strict=True)]
    assert all(-1 < difference < 9 for difference in differences), differences


@pytest.mark.parametrize(
    ("name", "load", "layers", "gpu", "host"),
    [
        ("llama-3.1-8b", Load(8192), 33, 121645184, 25178144),
        ("llama-3.1-8b", Load(131072, "q8_0"), 33, 704735360, 151089184),
        ("qwen3-30b-a3b", Load(40960, "q8_0"), 49, 151087232, 50425888),
    ],
)
def test_the_buffers_of_a_gpu_and_the_host_are_exact(name, load, layers, gpu, host):
    shape = shape_of(name)
    found = compute_by_device(shape, load, Placement(1, (0,) * layers))
    assert found == [gpu, host]


@pytest.mark.parametrize(
    ("name", "load", "layers"),
    [
        # a matrix of the feed-forward network is larger than the others
        ("llama-3.1-8b", Load(32768, micro_batch=2048), 16),
        # products have biases
        ("gpt-oss-20b", Load(131072), 0),
        ("gpt-oss-20b", Load(131072), 12),
        ("gpt-oss-20b", Load(32768, parallel=4), 12),
        # the largest tensor of experts is twice as large as the others; heads have own matrices
        ("deepseek-v2-lite", Load(131072), 0),
        ("deepseek-v2-lite", Load(131072), 14),
        ("deepseek-v2-lite", Load(131072, "q8_0"), 0),
        ("deepseek-v2-lite", Load(131072, "q8_0"), 14),
        # queries and keys are normalized, and values have larger weights than keys
        ("gemma3-27b", Load(32768, micro_batch=2048), 0),
        ("qwen3-30b-a3b", Load(32768, micro_batch=2048), 24),
        # some layers are recurrent
        ("qwen3-coder-next-80b-a3b", Load(32768, parallel=4), 24),
    ],
)
def test_a_gpu_holds_what_llama_cpp_plans_with_layers_in_host_memory(name, load, layers):
    shape = shape_of(name)
    rows = json.loads((DATA / "offload_one_gpu.json").read_text())
    used = {
        "model": name,
        "context": load.context,
        "kv_type": load.kv_type,
        "ubatch": load.micro_batch,
        "sequences": load.parallel,
        "gpu_layers": layers,
    }
    row = next(row for row in rows if used.items() <= row.items())
    placed = placement(shape, [1], layers=layers, experts=0, shares=())
    found = compute_by_device(shape, load, placed)[0]
    assert abs(found - row["gpu_compute"]) < 8192


def test_what_halves_a_fused_product_has_no_weights_that_a_gpu_copies():
    models = json.loads((DATA / "models.json").read_text())
    shape = ModelShape.from_header(header(next(x for x in models if x["name"] == "phi-4")))
    placed = placement(shape, [1], layers=20, experts=0, shares=())
    assert abs(compute_by_device(shape, Load(8192), placed)[0] - 249071616) < 8192


@pytest.mark.parametrize(
    ("free", "layers", "used"),
    [([90000], 18, [425593856, 59267104]), ([9000] * 2, 36, [343482368, 1417683456, 172580992])],
)
def test_layers_that_read_the_cache_of_an_earlier_one_have_copies_of_it(free, layers, used):
    models = json.loads((DATA / "more_models.json").read_text())
    shape = ModelShape.from_header(header(next(x for x in models if x["name"] == "gemma4-e2b")))
    placed = placement(shape, free, layers=layers, experts=0, shares=())
    found = compute_by_device(shape, Load(32768), placed)
    assert found == [pytest.approx(each, abs=8 * MIB) for each in used]


def test_a_gpu_computes_prompts_for_layers_in_host_memory_with_copies_of_their_weights():
    shape = shape_of("qwen3-30b-a3b")
    (gpu, _) = compute_by_device(shape, Load(8192), Placement(1, (0,) * 49))
    (offloading, _) = compute_by_device(shape, Load(8192), Placement(1, (1,) * 24 + (0,) * 25))
    (experts, _) = compute_by_device(shape, Load(8192), Placement(1, (0,) * 49, 24))
    largest = shape.layers[0].largest_expert
    assert gpu < largest < experts <= offloading
    assert abs(offloading - 257949952) < 64 * MIB


def test_what_fits_together_need_not_fit_each_gpu():
    shape, load = shape_of("llama-3.1-8b"), Load(16384)

    def gpus(*mib):
        return [Device("GPU", "gpu", x * MIB, x * MIB, "cuda") for x in mib]

    host = Device("host", "host", 64 << 30, 64 << 30, "cpu")
    assert fit(shape, load, [*gpus(3700, 3700), host], reserve=0).verdict == "fits"
    assert fit(shape, load, [*gpus(6637, 763), host], reserve=0).verdict != "fits"


def test_llama_cpps_own_fit_leaves_as_much_free_as_an_estimate():
    assert GPU_MARGIN_MIB * MIB == GPU_RESERVE
