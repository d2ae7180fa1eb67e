"""Indexes and manifest lists: the model in one is found, or why none is taken is told."""

import json

import pytest

from modelrunner.errors import UnsupportedArtifactError
from tests.conftest import CommandLine
from tests.support.artifacts import (
    DOCKER_MANIFEST,
    Artifact,
    docker_artifact,
    image_artifact,
    index_artifact,
)
from tests.support.pulling import Pulling
from tests.support.registry import Registry

WEIGHTS = b"GGUF" + (bytes(range(256)) * 900)[4:]
MODEL = docker_artifact(WEIGHTS, license=b"do as you like")
OTHER = docker_artifact(b"GGUF" + WEIGHTS[:3:-1], filenames=["other-Q8_0.gguf"])
IMAGE = image_artifact()
AMD, ARM = ({"os": "linux", "architecture": name} for name in ("amd64", "arm64"))
UNKNOWN = {"os": "unknown", "architecture": "unknown"}


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def pulling(store):
    return Pulling(store)


def as_list(index: Artifact) -> Artifact:
    """The index as Docker's manifest list."""
    document = json.loads(index.manifest)
    kind = "application/vnd.docker.distribution.manifest.list.v2+json"
    document["mediaType"] = kind
    for entry in document["manifests"]:
        entry["mediaType"] = DOCKER_MANIFEST
    return Artifact(json.dumps(document).encode(), kind, children=index.children)


@pytest.mark.parametrize(
    "index",
    [
        index_artifact(MODEL),
        index_artifact(IMAGE, MODEL, platforms=[AMD, UNKNOWN]),
        index_artifact(MODEL, MODEL, platforms=[AMD, ARM]),
        index_artifact(IMAGE, index_artifact(MODEL)),
        as_list(index_artifact(MODEL)),
    ],
    ids=["alone", "beside an image", "for two platforms", "nested", "a manifest list"],
)
def test_the_model_in_an_index_is_pulled(registry, pulling, index):
    registry.add(index, "team/m", tags=["1"])
    name = registry.reference("team/m:1")
    pulled = pulling.pull(name)
    assert str(pulled.model.digest) == MODEL.digest
    assert pulled.model.weights().read_bytes() == WEIGHTS
    registry.requests.clear()
    assert pulling.pull(name).status == "up-to-date"
    assert registry.count("GET", "blob") == 0


def test_an_index_that_is_pinned_names_the_model_by_its_own_digest(registry, pulling):
    digest = registry.add(index_artifact(IMAGE, MODEL), "team/m", tags=["1"])
    pulled = pulling.pull(registry.reference(f"team/m@{digest}"))
    assert str(pulled.reference.digest) == MODEL.digest
    assert [str(name.digest) for name in pulled.model.references] == [MODEL.digest]


def test_attestations_are_no_models(registry, pulling):
    index = index_artifact(MODEL, OTHER)
    document = json.loads(index.manifest)
    document["manifests"][1]["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    marked = Artifact(json.dumps(document).encode(), index.media_type, children=index.children)
    registry.add(marked, "team/m", tags=["1"])
    assert str(pulling.pull(registry.reference("team/m:1")).model.digest) == MODEL.digest


def test_several_models_are_named(registry, pulling):
    registry.add(index_artifact(MODEL, OTHER), "team/m", tags=["1"])
    with pytest.raises(UnsupportedArtifactError) as caught:
        pulling.pull(registry.reference("team/m:1"))
    error = caught.value
    assert error.message == "this is an index of 2 manifests, and 2 of them are models"
    assert f"@{OTHER.digest} (other-Q8_0.gguf" in (error.hint or "")
    assert error.facts["manifests"] == [MODEL.digest, OTHER.digest]
    assert registry.count("GET", "blob") == 0
    named = f"team/m@{OTHER.digest}"
    assert str(pulling.pull(registry.reference(named)).model.digest) == OTHER.digest


def test_an_image_for_several_platforms_is_told_as_such(registry, pulling):
    registry.add(index_artifact(IMAGE, IMAGE, platforms=[AMD, ARM]), "team/m", tags=["1"])
    with pytest.raises(UnsupportedArtifactError, match="none of them a model: this is a container"):
        pulling.pull(registry.reference("team/m:1"))


def test_what_an_index_names_and_the_registry_lacks_is_told(registry, pulling):
    index = index_artifact(MODEL)
    registry.add(Artifact(index.manifest, index.media_type), "team/m", tags=["1"])
    with pytest.raises(UnsupportedArtifactError, match="none of them a model"):
        pulling.pull(registry.reference("team/m:1"))


def test_an_index_of_a_thousand_is_not_read_to_its_end(registry, pulling):
    index = index_artifact(*[docker_artifact(WEIGHTS[n:]) for n in range(60)])
    registry.add(index, "team/m", tags=["1"])
    with pytest.raises(UnsupportedArtifactError, match="index of 60 manifests"):
        pulling.pull(registry.reference("team/m:1"))
    assert registry.count("GET", "manifest") <= 33


@pytest.mark.parametrize("command", [("inspect", "--remote"), ("tags", "--details")])
def test_other_commands_find_it_too(
    cli: CommandLine, registry: Registry, command: tuple[str, ...]
) -> None:
    registry.add(index_artifact(IMAGE, MODEL), "team/m", tags=["1"])
    done = cli(*command, registry.reference("team/m:1"), "--json")
    assert done.returncode == 0, done.stderr
    assert MODEL.digest in done.stdout


def test_a_lock_pins_the_model_and_not_the_index(cli: CommandLine, registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry.add(index_artifact(IMAGE, MODEL), "team/m", tags=["1"])
    (tmp_path / "modelrunner.toml").write_text(
        f'[models]\nm = "{registry.reference("team/m:1")}"\n'
    )
    assert cli("lock").returncode == 0
    assert MODEL.digest in (tmp_path / "modelrunner.lock").read_text()
    assert cli("pull", "--locked").returncode == 0
    assert cli("lock", "--check").returncode == 0
