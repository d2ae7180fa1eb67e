"""Ollama's registry, which has a part of the protocol: pulled from, pinned, locked and resolved."""

import json
from collections.abc import Iterator

import pytest

from modelrunner.errors import ManifestNotFoundError
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from tests.support.artifacts import ollama_artifact
from tests.support.ollama_registry import OllamaRegistry
from tests.support.pulling import Pulling
from tests.support.registry import Cdn

WEIGHTS = b"GGUF" + (bytes(range(256)) * 9000)[4:]
PARAMS = {"num_ctx": 8192, "temperature": 0.3, "stop": ["<|eot_id|>"]}
MODEL = ollama_artifact(WEIGHTS, params=PARAMS, system="Be brief.")
NAME = "library/llama3.2:1b"


@pytest.fixture
def cdn() -> Iterator[Cdn]:
    with Cdn(host="localhost") as cdn:
        yield cdn


@pytest.fixture(params=[True, False], ids=["HEAD", "no HEAD"])
def registry(request: pytest.FixtureRequest, cdn: Cdn) -> Iterator[OllamaRegistry]:
    with OllamaRegistry(cdn, heads=request.param) as registry:
        registry.add(MODEL, "library/llama3.2", ["1b"])
        yield registry


def test_a_model_of_ollamas_library_comes_with_its_settings(store, registry, cdn):
    pulled = Pulling(store).pull(registry.reference(NAME))
    model = pulled.model
    assert (pulled.status, str(model.digest)) == ("pulled", MODEL.digest)
    assert model.weights().read_bytes() == WEIGHTS
    assert model.weights().name == "model.gguf"
    assert (model.config.context_size, model.config.settings) == (
        8192,
        {"temperature": 0.3, "system": "Be brief."},
    )
    assert model.artifact.template is None
    assert cdn.requests
    assert all(request.authorization is None for request in cdn.requests)


def test_a_second_pull_moves_nothing(store, registry):
    pulling = Pulling(store)
    pulling.pull(registry.reference(NAME))
    registry.requests.clear()
    assert pulling.pull(registry.reference(NAME)).status == "up-to-date"
    assert registry.count("GET", "blob") == 0


def test_a_pinned_manifest_comes_although_the_registry_has_it_as_a_blob_alone(store, registry):
    name = f"{registry.host}/library/llama3.2@{MODEL.digest}"
    assert str(Pulling(store).pull(name).model.digest) == MODEL.digest


def test_a_digest_that_is_not_there_is_not_found(store, registry):
    absent = Digest.of(b"absent")
    with pytest.raises(ManifestNotFoundError) as caught:
        Pulling(store).pull(f"{registry.host}/library/llama3.2@{absent}")
    assert caught.value.exit_code == 3


def test_a_tag_that_is_not_there_is_not_found_without_a_list_of_tags(store, registry):
    with pytest.raises(ManifestNotFoundError) as caught:
        Pulling(store).pull(registry.reference("library/llama3.2:7t"))
    assert caught.value.exit_code == 3
    assert "library/llama3.2:7t" in caught.value.message
    assert store.models() == ()


def test_what_a_tag_stands_for_is_known_from_ollamas_own_header(store, registry):
    name = Reference.parse(registry.reference(NAME))
    source = Pulling(store).places.source_for(name)
    assert str(source.resolve(name)) == MODEL.digest
    asked = [request.method for request in registry.requests if request.kind == "manifest"]
    assert asked in (["HEAD"], ["HEAD", "GET"])


def test_a_blob_that_lies_about_being_the_manifest_is_not_believed(store, registry):
    there = registry.storage.repositories["library/llama3.2"]
    stored = there.manifests[MODEL.digest]
    wrong = json.loads(stored.content) | {"annotations": {"x": "y"}}
    there.manifests[MODEL.digest] = type(stored)(json.dumps(wrong).encode(), stored.media_type)
    with pytest.raises(ManifestNotFoundError):
        Pulling(store).pull(f"{registry.host}/library/llama3.2@{MODEL.digest}")
