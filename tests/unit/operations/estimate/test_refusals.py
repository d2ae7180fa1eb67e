"""Files that no estimate is made of: parts of models, and headers that contradict themselves."""

from pathlib import Path

import pytest

from modelrunner.cards.catalog import Catalog
from modelrunner.errors import MalformedGGUFError, NotInStoreError, UnsupportedArtifactError
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate.estimate import Estimator
from modelrunner.operations.estimate.report import EstimateRequest
from modelrunner.registry.source import Source
from modelrunner.store.store import Store
from tests.support.gguf import tiny_gguf


@pytest.fixture
def estimator(store: Store) -> Estimator:
    def nowhere(reference: Reference) -> Source:
        raise NotInStoreError(f"{reference.short} is not here")

    return Estimator(store, nowhere, Catalog.load, tuple)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"general.type": "adapter", "adapter.type": "lora"}, "an adapter"),
        ({"adapter.type": "lora"}, "an adapter"),
        ({"general.type": "mmproj"}, "a projector"),
        ({"general.architecture": "clip"}, "a projector"),
        ({"general.type": "imatrix"}, "an imatrix"),
    ],
)
def test_a_part_of_a_model_is_not_estimated_as_a_model(estimator, tmp_path: Path, values, kind):
    path = tiny_gguf(tmp_path / "part.gguf", metadata=values)
    with pytest.raises(UnsupportedArtifactError) as caught:
        estimator.of_file(path, EstimateRequest())
    assert caught.value.message == f"{path} is {kind}, not a model"
    assert caught.value.hint == "run the model that it belongs to"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"llama.block_count": 400}, "llama.block_count is 400, with tensors of 2"),
        (
            {"llama.attention.head_count": [4, 4, 4]},
            "llama.attention.head_count has 3 values for 2 layers",
        ),
        (
            {"llama.attention.head_count_kv": [2]},
            "llama.attention.head_count_kv has 1 values for 2 layers",
        ),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(estimator, tmp_path: Path, values, problem):
    path = tiny_gguf(tmp_path / "odd.gguf", metadata=values)
    with pytest.raises(MalformedGGUFError) as caught:
        estimator.of_file(path, EstimateRequest())
    assert caught.value.message == f"{path}: {problem}"
    assert caught.value.hint


def test_layers_that_guess_ahead_may_be_in_another_file(estimator, tmp_path: Path):
    keys = {"llama.block_count": 3, "llama.nextn_predict_layers": 1}
    path = tiny_gguf(tmp_path / "trunk.gguf", metadata=keys)
    assert estimator.of_file(path, EstimateRequest()).estimate.is_complete
