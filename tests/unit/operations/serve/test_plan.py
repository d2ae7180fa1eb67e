"""How a model is served: what it may take of a budget, and how long its texts may be."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelrunner.errors import DoesNotFitError
from modelrunner.memory.devices.devices import Device
from modelrunner.oci.reference import Reference
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.operations.serve.plan import ServePlan, plan_serving, rooms_of
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_size
from tests.support.gguf import tiny_gguf

MIB = 1024**2
HOST = Device(
    name="x86_64", kind="host", backend="cpu", total_bytes=16384 * MIB, free_bytes=8192 * MIB
)
WISH = LaunchRequest(threads=4)


@pytest.fixture
def talker(store: Store, tiny_models: dict[str, Path]) -> StoredModel:
    return stored(store, tiny_models["llama"])


@pytest.fixture
def encoder(store: Store, tiny_models: dict[str, Path]) -> StoredModel:
    return stored(store, tiny_models["bert"])


def stored(store: Store, file: Path) -> StoredModel:
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    name = Reference.parse("ai/x:1")
    return package(store, Ingredients(file), name, family="docker", created=moment)


def plan(
    store: Store,
    model: StoredModel,
    request: LaunchRequest = WISH,
    *,
    budget: int | None = None,
    several: bool = False,
) -> ServePlan:
    return plan_serving(store, model, "ai/x:1", request, [HOST], several=several, budget=budget)


def test_a_model_that_fits_the_budget_keeps_its_context_and_says_so(
    store: Store, talker: StoredModel
) -> None:
    found = plan(store, talker, budget=64 * MIB)
    needed = format_size(found.served.memory or 0)
    assert found.line == (
        f"ai/x:1 Q8_0: fits, needs {needed} of the 64.00 MiB budget; context 8192, 4 threads"
    )
    assert found.fits


@pytest.mark.parametrize("mebibytes", [2, 4, 8])
def test_a_budget_that_is_too_small_shortens_the_context_until_it_fits(
    store: Store, talker: StoredModel, mebibytes: int
) -> None:
    budget = mebibytes * MIB
    found = plan(store, talker, budget=budget, several=True)
    spec, memory = found.served.spec, found.served.memory or 0
    assert 256 <= spec.context * spec.parallel < 8192
    assert memory <= budget
    # and not shorter than it has to be
    request = LaunchRequest(context=spec.context + 256, threads=4, kv_type=spec.cache_type_k)
    with pytest.raises(DoesNotFitError):
        plan(store, talker, request, budget=budget)
    assert f"needs {format_size(memory)} of the {mebibytes}.00 MiB budget" in found.line
    assert f"context {spec.context} of 8192" in found.line


@pytest.mark.parametrize(
    ("mebibytes", "kind", "context"), [(2, "f16", 256), (6, "q8_0", 3584), (14, "f16", 8192)]
)
def test_a_budget_gets_a_tighter_cache_where_that_makes_a_short_context_longer(
    store: Store, talker: StoredModel, mebibytes: int, kind: str, context: int
) -> None:
    found = plan(store, talker, budget=mebibytes * MIB)
    spec = found.served.spec
    assert (spec.cache_type_k, spec.cache_type_v, spec.context) == (kind, kind, context)
    assert (f"context {context} of 8192, its cache q8_0" in found.line) == (kind == "q8_0")


@pytest.mark.parametrize(
    ("types", "kinds"),
    [
        ({"kv_type": "f16"}, ("f16", "f16")),
        ({"kv_type_v": "f16"}, ("f16", "f16")),
        ({"kv_type": "f16", "kv_type_v": "q8_0"}, ("f16", "q8_0")),
    ],
)
def test_a_budget_leaves_types_of_the_cache_that_were_asked_for(
    store: Store, talker: StoredModel, types: dict[str, str], kinds: tuple[str, str]
) -> None:
    request = LaunchRequest(threads=4, **types)
    spec = plan(store, talker, request, budget=6 * MIB).served.spec
    assert (spec.cache_type_k, spec.cache_type_v) == kinds
    assert spec.context < 3584


def test_a_budget_does_not_get_a_type_of_cache_that_the_model_cannot_have(
    store: Store, tmp_path: Path
) -> None:
    model = stored(store, tiny_gguf(tmp_path / "tiny.gguf"))  # keys of 8
    whole = plan(store, model).served
    found = plan(store, model, budget=(whole.memory or 0) - 64 * 1024).served
    assert (found.spec.cache_type_k, found.spec.cache_type_v) == ("f16", "f16")
    assert found.spec.context < whole.spec.context


def test_conversations_at_a_time_are_fewer_where_the_budget_asks_for_it(
    store: Store, talker: StoredModel
) -> None:
    budgets = {4: 64 * MIB, 2: 20 * MIB, 1: 14 * MIB}
    for count, budget in budgets.items():
        found = plan(store, talker, budget=budget, several=True).served
        assert (found.spec.parallel, found.spec.context) == (count, 8192)
        assert found.memory is not None
        assert found.memory <= budget


def test_conversations_that_were_asked_for_share_what_the_budget_allows(
    store: Store, talker: StoredModel
) -> None:
    request = LaunchRequest(threads=4, parallel=4)
    found = plan(store, talker, request, budget=8 * MIB, several=True).served
    assert found.spec.parallel == 4
    assert found.spec.context % 256 == 0
    assert found.memory is not None
    assert found.memory <= 8 * MIB


@pytest.mark.parametrize("kind", ["talker", "encoder"])
def test_a_model_that_no_context_is_short_enough_for_is_refused_with_what_it_needs(
    store: Store, kind: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    with pytest.raises(DoesNotFitError) as raised:
        plan(store, model, budget=100 * 1024)
    assert (raised.value.exit_code, raised.value.facts["budget_bytes"]) == (7, 100 * 1024)
    assert re.fullmatch(r"ai/x:1 needs [\d.]+ \w+, the budget is 100.00 KiB", raised.value.message)
    least = int(raised.value.facts["needed_bytes"])
    assert str(raised.value.hint).startswith(f"raise --budget to {format_size(least)} at least")
    assert plan(store, model, budget=least).served.memory == least


@pytest.mark.parametrize("kind", ["talker", "encoder"])
def test_a_context_that_was_asked_for_is_not_shortened_silently(
    store: Store, kind: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    request = LaunchRequest(context=512, threads=4)
    with pytest.raises(DoesNotFitError) as raised:
        plan(store, model, request, budget=MIB + MIB // 4)
    shorter = re.fullmatch(r"use --context (\d+) or less", str(raised.value.hint))
    assert shorter is not None
    request = LaunchRequest(context=int(shorter[1]), threads=4)
    assert plan(store, model, request, budget=MIB + MIB // 4).fits


def test_a_draft_model_counts_too(
    store: Store, talker: StoredModel, tiny_models: dict[str, Path]
) -> None:
    alone = plan(store, talker).served.memory
    request = LaunchRequest(threads=4, draft_model=tiny_models["llama"])
    assert plan(store, talker, request).served.memory == 2 * (alone or 0)


@pytest.mark.parametrize(("asked", "given"), [(None, 512), (256, 256), (2048, 512)])
def test_an_embedding_model_takes_no_text_longer_than_it_was_trained_for(
    store: Store, encoder: StoredModel, asked: int | None, given: int
) -> None:
    found = plan(store, encoder, LaunchRequest(context=asked, threads=4))
    assert found.served.spec.context == given
    assert found.line.endswith(f"; embeds up to {given} tokens")


def test_a_plan_says_what_the_model_takes_of_each_gpu(store: Store, talker: StoredModel) -> None:
    gpus = [
        Device("RTX", "gpu", 2048 * MIB, free * MIB, "cuda", handle=f"CUDA{number}")
        for number, free in enumerate((1330, 830))
    ]
    one = plan_serving(store, talker, "ai/x:1", WISH, [gpus[0], HOST])
    both = plan_serving(store, talker, "ai/x:1", WISH, [*gpus, HOST])
    neither = plan(store, talker)
    assert [name for name, _ in one.served.on_gpus] == ["CUDA0"]
    assert [name for name, _ in both.served.on_gpus] == ["CUDA0", "CUDA1"]
    assert all(size > 0 for _, size in both.served.on_gpus)
    assert neither.served.on_gpus == ()
    assert rooms_of([*gpus, HOST]) == (("CUDA0", 1000 * MIB), ("CUDA1", 500 * MIB))
