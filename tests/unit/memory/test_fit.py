"""What fits where, and the longest context that does."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelrunner.memory import split
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.estimate import estimate
from modelrunner.memory.fit import (
    GPU_RESERVE,
    Budget,
    _first_near,
    choose_context,
    fit,
    fits_whole,
    longest_context,
)
from modelrunner.memory.model.parts import Weights
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load
from modelrunner.memory.schedule import compute_by_device
from modelrunner.memory.split import placement, shares_of

GIB = 1024**3
MANY = ["llama-3.2-3b", "gemma3-12b", "granite-4.0-h-micro", "qwen3-1.7b", "command-r7b"]


def gpu(free, *, shared=False):
    return Device("a GPU", "gpu", 48 * GIB, round(free * GIB), "cuda", shared=shared)


def host(free):
    return Device("the host", "host", 64 * GIB, round(free * GIB), "cpu")


def shared(shape, load, layers, experts=0):
    """What one GPU and the host hold."""
    placed = placement(shape, [GIB], layers=layers, experts=experts, shares=())
    return shares_of(shape, load, placed)


def test_a_large_gpu_holds_everything(shapes):
    found = fit(shapes["llama-3.2-3b"], Load(8192), [gpu(24), host(32)])
    assert (found.verdict, found.gpu_layers) == ("fits", 29)
    assert found.max_context == 131072
    assert found.budget_bytes == 24 * GIB - GPU_RESERVE


def test_a_small_gpu_holds_some_layers_and_the_host_the_rest(shapes):
    shape = shapes["phi-4"]
    found = fit(shape, Load(8192), [gpu(8), host(60)])
    assert found.verdict == "partial"
    assert 0 < found.gpu_layers < 41
    on_gpu, on_host = shared(shape, Load(8192), found.gpu_layers)
    one_more, _ = shared(shape, Load(8192), found.gpu_layers + 1)
    most = (8 * GIB - GPU_RESERVE) / 1.01
    assert on_gpu.total <= most < one_more.total
    assert [held.need_bytes for held in found.devices] == [on_gpu.total, on_host.total]
    assert [held.layers for held in found.devices] == [found.gpu_layers, 41 - found.gpu_layers]


def test_neither_gpu_nor_host_holds_it(shapes):
    found = fit(shapes["deepseek-v3"], Load(4096), [gpu(24), host(32)])
    assert (found.verdict, found.gpu_layers, found.max_context) == ("no", 0, None)


def test_without_a_gpu_the_host_holds_it_all(shapes):
    found = fit(shapes["qwen3-1.7b"], Load(4096), [host(16)])
    assert (found.verdict, found.gpu_layers, found.budget_bytes) == ("fits", 0, 16 * GIB)


def test_no_more_layers_are_put_on_the_gpu_than_asked_for(shapes):
    found = fit(shapes["llama-3.2-3b"], Load(4096, gpu_layers=10), [gpu(24), host(32)])
    assert (found.verdict, found.gpu_layers) == ("fits", 10)


def test_each_of_two_gpus_has_its_own_reserve_and_compute_buffer():
    budget = Budget.of([gpu(8), gpu(8), host(4)])
    assert (budget.gpu, budget.gpus) == (16 * GIB - 2 * GPU_RESERVE, 2)


def test_memory_that_gpu_and_host_share_is_counted_once(shapes):
    budget = Budget.of([gpu(10, shared=True), host(12)])
    assert budget.together == 12 * GIB
    found = fit(shapes["phi-4"], Load(4096), [gpu(6, shared=True), host(8)])
    assert found.verdict == "no"


def test_a_shape_that_is_not_known_can_only_be_too_heavy():
    unknown = ModelShape("nobodys", 0, 0, 0, (), Weights(total=5 * GIB))
    assert fit(unknown, Load(4096), 8 * GIB).verdict == "unknown"
    assert fit(unknown, Load(4096), 4 * GIB).verdict == "no"
    assert fit(unknown, Load(4096), [gpu(8), host(8)]).verdict == "unknown"
    assert fit(unknown, Load(4096), [gpu(2), host(2)]).verdict == "no"


@example(name="llama-3.2-3b", budget=2_590_473_124, kv_type="q8_0", parallel=2)
@given(
    name=st.sampled_from(MANY),
    budget=st.integers(10**8, 40 * GIB),
    kv_type=st.sampled_from(["f16", "q8_0"]),
    parallel=st.integers(1, 3),
)
def test_the_longest_context_is_never_over_budget_and_never_far_below(
    shapes, name, budget, kv_type, parallel
):
    shape, load = shapes[name], Load(4096 * parallel, kv_type, parallel)

    def needed(each):
        known = estimate(shape, replace(load, context=each * parallel))
        if found.verdict != "maybe":
            return known.high
        # by the estimate where the budget has room for that, else by the least
        return known.total if estimate(shape, load).total <= budget else known.low

    found = fit(shape, load, budget)
    if found.max_context is None:
        assert needed(256) > budget
        return
    assert found.max_context % 256 == 0
    assert found.max_context <= shape.context
    assert needed(found.max_context) <= budget
    if found.max_context + 256 <= shape.context:
        assert needed(found.max_context + 256) > budget


@given(name=st.sampled_from(MANY), on_gpu=st.floats(0.5, 24), on_host=st.floats(1, 32))
def test_the_longest_context_on_devices_keeps_its_verdict(shapes, name, on_gpu, on_host):
    shape, devices = shapes[name], [gpu(on_gpu), host(on_host)]
    found = fit(shape, Load(4096), devices)
    if found.verdict in ("fits", "partial") and found.max_context:
        again = fit(shape, Load(found.max_context), devices)
        assert again.gpu_layers >= found.gpu_layers
        assert again.verdict == found.verdict


def test_a_context_is_chosen_as_trained_as_fits_and_under_the_ceiling(shapes):
    large, small = [gpu(48), host(64)], [gpu(12), host(64)]
    assert choose_context(shapes["llama-3.2-3b"], large) == 32768
    assert choose_context(shapes["llama-3.2-3b"], large, ceiling=10**6) == 131072
    assert choose_context(shapes["phi-2"], large) == 2048
    nemo = shapes["mistral-nemo-12b"]
    chosen = choose_context(nemo, small)
    assert fit(nemo, Load(chosen), small).verdict == "fits"
    assert fit(nemo, Load(chosen + 256), small).verdict == "maybe"
    assert fit(nemo, Load(chosen * 2), small).verdict == "partial"


def test_a_short_context_is_chosen_where_nothing_fits(shapes):
    assert choose_context(shapes["deepseek-v3"], [host(8)]) == 4096
    assert choose_context(shapes["mxbai-embed-large"], 1000) == 512


@pytest.mark.parametrize("most", [0, 1000, 256 * 7])
def test_the_bisection_finds_the_border(most):
    shape = ModelShape("llama", 64, 100, 256 * 10, (), Weights(total=0))
    assert longest_context(shape, lambda context: most - context) == (most // 256 * 256 or None)


def test_the_parts_on_gpu_and_host_are_the_whole(shapes):
    shape, load = shapes["phi-4"], Load(8192)  # its output is not tied to the embeddings
    needed = estimate(shape, load)
    for layers in (0, 1, 20, 41):
        held = shared(shape, load, layers)
        assert sum(share.resident for share in held) == needed.total - needed.compute


def test_layers_go_to_gpus_in_runs_as_llama_cpp_splits_them(shapes):
    def devices(name, free, layers, shares=()):
        shape = shapes[name]
        return placement(shape, free, layers=layers, experts=0, shares=shares).layers

    # 28 layers and the output matrix: `float(index) / count` against the shares added up
    assert devices("llama-3.2-3b", [1, 1], 29) == (0,) * 15 + (1,) * 14
    assert devices("llama-3.2-3b", [3, 1], 29) == (0,) * 22 + (1,) * 7
    assert devices("llama-3.2-3b", [3, 1], 5) == (2,) * 24 + (0,) * 4 + (1,)
    assert devices("llama-3.2-3b", [1, 1, 1], 29, (0.0, 1.0, 0.0)) == (1,) * 29
    assert devices("llama-3.2-3b", [1], 0) == (1,) * 29


def test_two_gpus_hold_only_what_each_of_them_holds(shapes):
    shape = shapes["llama-3.2-3b"]
    alone = fit(shape, Load(8192), [gpu(24), host(64)])
    assert alone.verdict == "fits"
    # together there is room for the layers, and in neither for the output matrix beside one
    needed = estimate(shape, Load(8192)).total / GIB
    many = [gpu(needed / 40 + 0.5) for _ in range(41)]
    assert fit(shape, Load(8192), [*many, host(64)]).verdict != "fits"


def test_shares_that_were_asked_for_are_what_has_to_fit(shapes):
    shape, devices = shapes["llama-3.2-3b"], [gpu(5), gpu(5), host(64)]
    assert fit(shape, Load(8192), devices).verdict == "fits"
    lopsided = Load(8192, tensor_split=(20.0, 1.0))
    assert fit(shape, lopsided, [gpu(2), gpu(8), host(64)]).verdict == "partial"
    assert fit(shape, Load(8192), [gpu(2), gpu(8), host(64)]).verdict == "fits"


def test_experts_on_the_cpu_leave_room_on_the_gpu(shapes):
    shape = shapes["mixtral-8x7b"]
    devices = [gpu(12), host(64)]
    found = fit(shape, Load(8192), devices)
    assert (found.verdict, found.gpu_layers, found.cpu_moe_layers) == ("partial", 33, 21)
    again = fit(shape, Load(8192, cpu_moe_layers=21), devices)
    assert (again.verdict, again.gpu_layers, again.cpu_moe_layers) == ("fits", 33, 21)
    assert fit(shape, Load(8192, cpu_moe_layers=19), devices).verdict == "partial"
    assert [held.layers for held in found.devices] == [33, 0]


def test_without_host_memory_nothing_is_partly_on_the_gpu(shapes):
    assert fit(shapes["mixtral-8x7b"], Load(8192), [gpu(12)]).verdict == "no"
    assert fit(shapes["phi-4"], Load(8192, gpu_layers=10), [gpu(4)]).verdict == "fits"


def test_verdicts_go_by_the_range(shapes):
    shape, load = shapes["phi-4"], Load(8192)
    needed = estimate(shape, load)
    assert fit(shape, load, needed.high).verdict == "fits"
    assert fit(shape, load, needed.high - 1).verdict == "maybe"
    assert fit(shape, load, needed.low).verdict == "maybe"
    assert fit(shape, load, needed.low - 1).verdict == "no"
    on_gpu = shared(shape, load, 41)[0].total
    for room, verdict in (
        (1.011, "fits"), (1.009, "maybe"), (0.991, "maybe"), (0.989, "partial"),
    ):  # fmt: skip
        assert fit(shape, load, [gpu(on_gpu * room / GIB), host(64)], reserve=0).verdict == verdict
    assert fit(shape, load, [gpu(on_gpu * 0.989 / GIB)], reserve=0).verdict == "no"


def test_what_was_measured_has_no_range(shapes):
    shape, load = shapes["phi-4"], Load(8192)
    needed = estimate(shape, load)
    exact = replace(needed, low=needed.total, high=needed.total, source="measured")
    assert fit(shape, load, needed.total, needed=exact).verdict == "fits"
    assert fit(shape, load, needed.total - 1, needed=exact).verdict == "no"
    unknown = ModelShape("nobodys", 0, 0, 0, (), Weights(total=5 * GIB))
    assert fit(unknown, load, needed.total, needed=exact).verdict == "fits"


def test_a_gpu_that_is_full_is_left_alone_where_the_host_has_room(shapes):
    shape, load = shapes["llama-3.2-3b"], Load(4096)
    needed = estimate(shape, load)
    found = fit(shape, load, [gpu(0.1), host(32)])
    assert (found.verdict, found.gpu_layers, found.host_only) == ("partial", 0, True)
    assert [(held.need_bytes, held.layers) for held in found.devices] == [
        (0, 0),
        (needed.total, len(shape.layers) + 1),
    ]
    # who asks for layers there gets them, or an error
    assert fit(shape, replace(load, gpu_layers=4), [gpu(0.1), host(32)]).verdict == "no"
    assert fit(shape, load, [gpu(0.1), host((needed.low - 1) / GIB)]).verdict == "no"


@pytest.mark.parametrize("first", range(1, 34))
def test_the_first_number_that_holds_is_found_from_any_guess(first):
    for guess in range(1, 34):
        assert _first_near(1, 33, guess, lambda n: n >= first) == first


def test_a_large_mixture_of_experts_is_placed_with_few_plans(shapes, monkeypatch):
    planned = []

    def counted(*use):
        planned.append(use)
        return compute_by_device(*use)

    monkeypatch.setattr(split, "compute_by_device", counted)
    devices = [gpu(24), gpu(24), host(512)]
    found = fit(shapes["deepseek-v3"], Load(32768), devices)
    assert (found.verdict, found.gpu_layers, found.cpu_moe_layers) == ("partial", 62, 59)
    assert len(planned) <= 12
    planned.clear()
    assert not fits_whole(shapes["deepseek-v3"], Load(32768), devices)
    assert len(planned) == 1


def test_no_longer_context_is_named_than_the_estimate_leaves_room_for(shapes):
    shape, load = shapes["llama-3.2-3b"], Load(8192)
    needed = estimate(shape, load).total
    found = fit(shape, load, needed)
    assert (found.verdict, found.max_context) == ("maybe", 8192)
