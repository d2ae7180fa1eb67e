"""Headers of architectures of every kind, as llama.cpp plans for them."""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.accuracy import DATA
from benchmarks.model_headers import header
from modelrunner.memory.estimate import estimate
from modelrunner.memory.model.architectures import wiring_of
from modelrunner.memory.model.contradictions import contradiction
from modelrunner.memory.model.hyperparameters import Hyperparameters
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load

DESCRIBED = {model["name"]: model for model in json.loads((DATA / "more_models.json").read_text())}
ROWS: dict[str, list[dict]] = {name: [] for name in DESCRIBED}
for _row in json.loads((DATA / "more_truth.json").read_text()):
    ROWS[_row["model"]].append(_row)


def load_of(row):
    return Load(row["context"], row["kv_type"], row["sequences"], row["ubatch"])


@cache
def header_of(name):
    return header(DESCRIBED[name])


@pytest.fixture(scope="module", params=sorted(DESCRIBED))
def planned(request):
    """Estimates for all uses of a model, each with what llama.cpp plans."""
    shape = ModelShape.from_header(header_of(request.param))
    return [(estimate(shape, load_of(row)), row) for row in ROWS[request.param]]


def test_weights_caches_and_states_are_what_llama_cpp_plans(planned):
    for found, row in planned:
        assert (found.weights, found.kv_cache + found.recurrent) == (
            row["weights"],
            row["context_bytes"],
        )


def test_the_plan_is_in_the_range_and_within_one_percent_where_the_graph_is_replayed(planned):
    for found, row in planned:
        assert found.low <= row["total"] + found.output <= found.high
        if not found.notes:
            assert found.total - found.output == pytest.approx(row["total"], rel=0.01)


def test_latent_attention_without_flash_attention_is_what_llama_cpp_plans():
    shape = ModelShape.from_header(header_of("kimi-k2-1t"))
    assert estimate(shape, Load(16384, flash_attention=False)).compute == 2407538720


NAMES = (DATA / "architectures.txt").read_text().split()
"""Every architecture in src/llama-arch.cpp of the llama.cpp that the plans are from, but clip."""


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_of_llama_cpp_has_a_rule(name):
    assert wiring_of(Hyperparameters(name, {}), {}).known


def library():
    """The installed libllama, if there is one."""
    spec = find_spec("llama_cpp")
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    return next(iter(sorted(folder.glob("libllama.*"))), None) if folder else None


@pytest.mark.skipif(library() is None, reason="needs llama-cpp-python")
def test_the_list_of_architectures_is_that_of_the_installed_llama_cpp():
    # a compiler lays the table's strings down in its order, up to the name for what is unknown
    before, _, _ = library().read_bytes().partition(b"\0(unknown)\0")
    names = [name.decode(errors="replace") for name in before.split(b"\0")[-60:]]
    assert [name for name in names if name not in NAMES] == []


@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_a_model_that_llama_cpp_plans_for_does_not_contradict_itself(name: str) -> None:
    assert contradiction(header_of(name)) is None
