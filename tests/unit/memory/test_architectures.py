"""Headers of architectures of every kind, as llama.cpp plans for them."""

import json

import pytest

from benchmarks.accuracy import DATA
from benchmarks.model_headers import header
from modelrunner.memory.estimate import estimate
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load

DESCRIBED = {model["name"]: model for model in json.loads((DATA / "more_models.json").read_text())}
ROWS: dict[str, list[dict]] = {name: [] for name in DESCRIBED}
for _row in json.loads((DATA / "more_truth.json").read_text()):
    ROWS[_row["model"]].append(_row)


def load_of(row):
    return Load(row["context"], row["kv_type"], row["sequences"], row["ubatch"])


@pytest.fixture(scope="module", params=sorted(DESCRIBED))
def planned(request):
    """Estimates for all uses of a model, each with what llama.cpp plans."""
    shape = ModelShape.from_header(header(DESCRIBED[request.param]))
    return [(estimate(shape, load_of(row)), row) for row in ROWS[request.param]]


def test_weights_caches_and_states_are_what_llama_cpp_plans(planned):
    for found, row in planned:
        assert (found.weights, found.kv_cache + found.recurrent) == (
            row["weights"],
            row["context_bytes"],
        )


def test_totals_are_within_half_a_percent_of_the_plan(planned):
    for found, row in planned:
        assert found.total - found.output == pytest.approx(row["total"], rel=0.005)
