"""A model in a store, put there as a pull would."""

from collections.abc import Callable

import pytest

from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.store.store import Store, StoredModel
from tests.support.artifacts import Artifact, docker_artifact

Add = Callable[..., StoredModel]


def put(store: Store, artifact: Artifact, *names: str) -> StoredModel:
    manifest = Manifest.from_bytes(artifact.manifest)
    with store.arriving():
        for descriptor in manifest.blobs:
            store.blobs.put(descriptor, artifact.blobs[str(descriptor.digest)])
        return store.add(manifest, [Reference.parse(name) for name in names])


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
