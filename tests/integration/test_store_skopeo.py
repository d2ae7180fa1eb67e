"""Another tool reads our store and writes to it."""

import hashlib
import json
import shutil
import subprocess

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.rows import rows
from modelrunner.store.store import Store
from modelrunner.store.sweep import leftovers, sweep
from tests.support.artifacts import Artifact, docker_artifact, image_artifact, modelpack_artifact
from tests.support.stores import put

pytestmark = [
    pytest.mark.registry,
    pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo on PATH"),
]

_PLAIN = docker_artifact(b"GGUF weights", license=b"free")
_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
MODELS = {
    "docker": docker_artifact(b"GGUF weights", license=b"free"),
    "modelpack": modelpack_artifact(b"GGUF weights", license=b"free"),
    "shards": docker_artifact([b"one", b"two", b"three"], annotations=False),
}


_OF_DOCKERS_TYPE = Artifact(
    json.dumps({**json.loads(_PLAIN.manifest), "mediaType": _DOCKER}).encode(),
    _DOCKER,
    _PLAIN.blobs,
)


def skopeo(*arguments) -> bytes:
    command = ["skopeo", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def lay_out(folder, artifact: Artifact, name: str) -> str:
    """The artifact in a layout of its own, written by hand."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for content in (artifact.manifest, *artifact.blobs.values()):
        (blobs / hashlib.sha256(content).hexdigest()).write_bytes(content)
    entry = {
        "mediaType": artifact.media_type,
        "digest": artifact.digest,
        "size": len(artifact.manifest),
        "annotations": {"org.opencontainers.image.ref.name": name},
    }
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return f"oci:{folder}:{name}"


@pytest.mark.parametrize(
    "artifact", [*MODELS.values(), _OF_DOCKERS_TYPE], ids=[*MODELS, "manifest of Docker's type"]
)
@pytest.mark.parametrize("name", ["docker.io/ai/m:3B-Q4_K_M", "localhost:5000/o/m:1"])
def test_skopeo_reads_a_model_by_its_name(store, tmp_path, artifact, name):
    model = put(store, artifact, name, "ai/another:1")
    source = f"oci:{store.layout.root}:{name}"
    assert skopeo("inspect", "--raw", source) == artifact.manifest
    skopeo("copy", "--insecure-policy", source, f"dir:{tmp_path / 'copy'}")
    copied = (tmp_path / "copy" / "manifest.json").read_bytes()
    assert Digest.of(copied) == model.digest
    for digest, content in artifact.blobs.items():
        assert (tmp_path / "copy" / digest.removeprefix("sha256:")).read_bytes() == content


@pytest.mark.parametrize("artifact", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("fresh", [True, False], ids=["new store", "store in use"])
def test_a_model_that_skopeo_put_into_the_store_is_one_like_any_other(
    store: Store, tmp_path, artifact, fresh
):
    store.layout.create()
    if not fresh:
        put(store, docker_artifact(b"ours"), "ai/ours:1")
    source = lay_out(tmp_path / "foreign", artifact, "x")
    skopeo("copy", "--insecure-policy", source, f"oci:{store.layout.root}:ai/theirs:1")
    names = [name for row in rows(store) for name in row.short_names]
    assert names == [*([] if fresh else ["ai/ours:1"]), "ai/theirs:1"]
    model = store.resolve("ai/theirs:1")
    assert str(model.digest) == artifact.digest
    assert model.weights().read_bytes() == artifact.layers[0]
    assert sweep(store, partials=True) == ()
    store.tag(model, Reference.parse("ai/theirs:2"))
    root = store.layout.root
    assert skopeo("inspect", "--raw", f"oci:{root}:docker.io/ai/theirs:2") == artifact.manifest
    store.forget(model.digest)
    assert {entry.kind for entry in leftovers(store, partials=True)} == {"blob", "view"}


def test_an_image_that_skopeo_put_into_the_store_is_listed_as_what_it_is(store, tmp_path):
    put(store, docker_artifact(b"ours"), "ai/ours:1")
    source = lay_out(tmp_path / "foreign", image_artifact(oci=True), "x")
    skopeo("copy", "--insecure-policy", source, f"oci:{store.layout.root}:library/box:1")
    found = {row.short_names[0]: row.problem for row in rows(store)}
    assert found == {
        "ai/ours:1": None,
        "library/box:1": "this is a container image, not a model",
    }
    assert sweep(store, partials=True) == ()
