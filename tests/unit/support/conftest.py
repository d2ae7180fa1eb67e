"""A registry with one model in it, and a CDN beside it."""

from collections.abc import Iterator

import pytest

from tests.support.artifacts import Artifact, docker_artifact
from tests.support.registry import Cdn, Registry, sha256
from tests.support.registry_client import WEIGHTS


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def cdn() -> Iterator[Cdn]:
    with Cdn(host="localhost") as cdn:
        yield cdn


@pytest.fixture
def model(registry: Registry) -> Artifact:
    artifact = docker_artifact(WEIGHTS, license=b"do as you like")
    registry.add(artifact, "ai/smollm2", tags=["135M", "latest"])
    return artifact


@pytest.fixture
def blob(registry: Registry, model: Artifact) -> str:
    """The URL of the weights."""
    return f"{registry.url}/v2/ai/smollm2/blobs/{sha256(WEIGHTS)}"


@pytest.fixture
def manifest(registry: Registry, model: Artifact) -> str:
    """The URL of the manifest, by tag."""
    return f"{registry.url}/v2/ai/smollm2/manifests/135M"
