"""What a model's own files recommend for sampling."""

import json
from pathlib import Path

import pytest

from modelrunner.operations.launch.plan import plan_launch
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.runtime.sampling import Sampling
from modelrunner.store.store import Store
from tests.support.artifacts import modelpack_artifact
from tests.support.gguf import Typed, tiny_gguf
from tests.support.stores import put

TEMPERATURE = {"general.sampling.temp": Typed("float32", 0.6), "general.sampling.top_k": 20}


def recommended(store: Store, folder: Path, files: dict[str, bytes], **asked: Sampling) -> object:
    weights = tiny_gguf(folder / "m.gguf", metadata=TEMPERATURE).read_bytes()
    model = put(store, modelpack_artifact(weights, extra_files=files), "x.example/m:1")
    plan = plan_launch(store, model, "m", LaunchRequest(threads=1, **asked), ())
    assert plan.spec.sampling == plan.recommended.values
    return plan.recommended.to_dict()


def test_a_file_of_the_artifact_beats_the_header(store: Store, tmp_path: Path) -> None:
    files = {"generation_config.json": json.dumps({"temperature": 1.0, "top_p": 0.9}).encode()}
    assert recommended(store, tmp_path, files) == {
        "temperature": {"value": 1.0, "source": "artifact"},
        "top_k": {"value": 20, "source": "header"},
        "top_p": {"value": 0.9, "source": "artifact"},
    }


def test_what_is_configured_beats_both(store: Store, tmp_path: Path) -> None:
    files = {"generation_config.json": b'{"temperature": 1.0}'}
    assert recommended(store, tmp_path, files, sampling=Sampling(temperature=0.2)) == {
        "temperature": {"value": 0.2, "source": "configured"},
        "top_k": {"value": 20, "source": "header"},
    }


@pytest.mark.parametrize("content", [b"[", b"[1]", b'{"temperature": "hot"}', b" " * 70_000])
def test_a_file_that_cannot_be_understood_recommends_nothing(
    store: Store, tmp_path: Path, content: bytes
) -> None:
    assert recommended(store, tmp_path, {"generation_config.json": content}) == {
        "temperature": {"value": 0.6, "source": "header"},
        "top_k": {"value": 20, "source": "header"},
    }
