"""Models whose headers and whose plans by llama.cpp are known."""

import json

import pytest

from benchmarks.accuracy import DATA
from benchmarks.model_headers import header
from modelrunner.memory.model.shape import ModelShape


@pytest.fixture(scope="session")
def headers():
    """GGUF headers by name."""
    return {
        model["name"]: header(model) for model in json.loads((DATA / "models.json").read_text())
    }


@pytest.fixture(scope="session")
def shapes(headers):
    """Shapes by name."""
    return {name: ModelShape.from_header(made) for name, made in headers.items()}


@pytest.fixture(scope="session")
def grok():
    """A shape of the architecture that never has flash attention."""
    models = json.loads((DATA / "more_models.json").read_text())
    return ModelShape.from_header(header(next(x for x in models if x["name"] == "grok-1-314b")))
