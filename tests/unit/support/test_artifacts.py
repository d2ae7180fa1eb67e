"""Artifacts have the shapes that the two families of model artifacts have in the world."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from hashlib import sha256

import pytest

from tests.support.artifacts import (
    Artifact,
    dduf_artifact,
    docker_artifact,
    helm_like_artifact,
    image_artifact,
    index_artifact,
    modelpack_artifact,
    safetensors_artifact,
)

MAKERS: dict[str, Callable[[], Artifact]] = {
    "docker": lambda: docker_artifact([b"one", b"two"], template=b"{{ x }}", mmproj=b"eye"),
    "docker v0.2": lambda: docker_artifact(b"w", version="v0.2", extra_files={"a/b.json": b"{}"}),
    "modelpack": lambda: modelpack_artifact(b"w", license=b"free"),
    "modelpack compressed": lambda: modelpack_artifact(b"w", compressed=True),
    "safetensors": safetensors_artifact,
    "safetensors v0.1": lambda: safetensors_artifact(version="v0.1"),
    "dduf": dduf_artifact,
    "image": image_artifact,
    "oci image": lambda: image_artifact(oci=True),
    "helm": helm_like_artifact,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_manifest_names_exactly_the_blobs_and_is_the_same_each_time(
    make: Callable[[], Artifact],
) -> None:
    artifact = make()
    document = json.loads(artifact.manifest)
    named = [document["config"], *document["layers"]]

    assert {entry["digest"] for entry in named} == set(artifact.blobs)
    for entry in named:
        content = artifact.blobs[entry["digest"]]
        assert entry["size"] == len(content)
        assert entry["digest"] == f"sha256:{sha256(content).hexdigest()}"
    assert document["mediaType"] == artifact.media_type
    assert make() == artifact


def test_docker_shards_keep_their_order_and_names() -> None:
    artifact = docker_artifact([b"one", b"two"], license=b"free")
    layers = json.loads(artifact.manifest)["layers"]
    assert [
        (layer["mediaType"], layer["annotations"]["org.cncf.model.filepath"]) for layer in layers
    ] == [
        ("application/vnd.docker.ai.gguf.v3", "model-00001-of-00002.gguf"),
        ("application/vnd.docker.ai.gguf.v3", "model-00002-of-00002.gguf"),
        ("application/vnd.docker.ai.license", "LICENSE"),
    ]
    assert artifact.layers == [b"one", b"two", b"free"]
    assert json.loads(artifact.config)["rootfs"]["diff_ids"] == artifact.layer_digests


def test_docker_artifacts_of_old_have_no_annotations_and_no_artifact_type() -> None:
    document = json.loads(docker_artifact(b"w", annotations=False).manifest)
    assert "artifactType" not in document
    assert all("annotations" not in layer for layer in document["layers"])


def test_config_keys_are_replaced_and_removed() -> None:
    artifact = docker_artifact(b"w", config={"parameters": "361.82 M", "context_size": None})
    config = json.loads(artifact.config)["config"]
    assert config["parameters"] == "361.82 M"
    assert "context_size" not in config


def test_modelpack_says_what_it_is() -> None:
    document = json.loads(modelpack_artifact(b"w").manifest)
    assert document["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert document["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert document["layers"][0]["mediaType"] == "application/vnd.cncf.model.weight.v1.raw"


def test_modelpack_weights_may_have_the_extension_type() -> None:
    document = json.loads(modelpack_artifact(b"w", weight_type="weight.v1.gguf").manifest)
    assert document["layers"][0]["mediaType"] == "application/vnd.cncf.model.weight.v1.gguf"


def test_compressed_weights_are_a_tar_whose_diff_id_is_of_the_tar() -> None:
    artifact = modelpack_artifact(b"weights", compressed=True)
    packed = artifact.layers[0]
    archive = gzip.decompress(packed)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile("model.gguf")
        assert member is not None
        assert member.read() == b"weights"
    assert json.loads(artifact.config)["modelfs"]["diffIds"] == [
        f"sha256:{sha256(archive).hexdigest()}"
    ]


def test_index_lists_its_children() -> None:
    model, image = docker_artifact(b"w"), image_artifact()
    index = index_artifact(model, image, platforms=[{}, {"os": "linux", "architecture": "amd64"}])
    entries = json.loads(index.manifest)["manifests"]
    assert [entry["digest"] for entry in entries] == [model.digest, image.digest]
    assert entries[1]["platform"] == {"os": "linux", "architecture": "amd64"}
    assert index.media_type == "application/vnd.oci.image.index.v1+json"
