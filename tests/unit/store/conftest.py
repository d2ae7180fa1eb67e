"""A model in a store, put there as a pull would."""

from collections.abc import Callable

import pytest

from modelrunner.store.store import Store, StoredModel
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.stores import put

Add = Callable[..., StoredModel]


@pytest.fixture
def add(store: Store) -> Add:
    """Files an artifact under names: `add(docker_artifact(b"GGUF"), "ai/m:1")`."""
    return lambda artifact, *names: put(store, artifact, *names)


@pytest.fixture
def artifact() -> Artifact:
    return docker_artifact(b"GGUF weights", license=b"do as you like")


@pytest.fixture
def model(add: Add, artifact: Artifact) -> StoredModel:
    """A small model named `ai/m:1` and `ai/m:latest`."""
    return add(artifact, "ai/m:1", "ai/m:latest")
