"""Models come and go by name; a name stands for a whole model or for none."""

import json

import pytest

from modelrunner.errors import (
    CorruptStoreError,
    InvalidReferenceError,
    ModelNotFoundError,
    UnsupportedArtifactError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.rows import rows
from modelrunner.store.index import Entry, write_index
from modelrunner.store.store import Store
from tests.support.artifacts import (
    OCI_INDEX,
    OCI_MANIFEST,
    docker_artifact,
    image_artifact,
    modelpack_artifact,
)
from tests.support.stores import put
from tests.support.work import opened_files

MISSING = f"sha256:{'e' * 64}"


def names(model):
    return [str(reference) for reference in model.references]


def test_a_model_is_found_by_each_of_its_names(store, model):
    texts = ["ai/m:1", "m:1", "m", "M", "ai/m", "docker.io/ai/m:latest", "index.docker.io/ai/m:1"]
    for text in texts:
        assert store.resolve(text).digest == model.digest


def test_a_model_is_found_by_its_id(store, model):
    digits = model.digest.hex
    texts = [
        str(model.digest),
        digits,
        digits[:12],
        f"ai/m@{model.digest}",
        f"x/y:z@{model.digest}",
    ]
    for text in texts:
        assert store.resolve(text).digest == model.digest


@pytest.mark.parametrize(
    "text",
    [
        "ai/m:2",
        "ai/other",
        "ghcr.io/ai/m:1",
        "M:LATEST",
        MISSING,
        "e" * 64,
        "e" * 12,
        f"m@{MISSING}",
    ],
)
def test_what_is_not_there_is_not_found(store, model, text):
    assert store.lookup(text) is None
    with pytest.raises(ModelNotFoundError):
        store.resolve(text)


@pytest.mark.parametrize("cut", [11, 13, 63])
def test_an_id_is_not_cut_at_will(store, model, cut):
    assert store.lookup(model.digest.hex[:cut]) is None


def test_a_name_that_looks_like_an_id_is_a_name_where_no_model_has_this_id(store, add, artifact):
    model = add(artifact, "deadbeef0123", f"ai/{'d' * 64}")
    assert store.resolve("deadbeef0123").digest == model.digest
    assert store.resolve("d" * 64).digest == model.digest


def test_the_id_comes_before_a_name_that_looks_like_it(store, add):
    first = add(docker_artifact(b"first"), "ai/first")
    add(docker_artifact(b"second"), first.digest.short)
    assert store.resolve(first.digest.short).digest == first.digest
    assert store.resolve(f"ai/{first.digest.short}").digest != first.digest


@pytest.mark.parametrize("text", ["", "../x", "sha256:xyz@", "a b"])
def test_what_is_neither_id_nor_name_is_refused(store, model, text):
    with pytest.raises(InvalidReferenceError):
        store.resolve(text)


def test_near_names_are_offered(store, model):
    for text in ("ai/m:3", "ai/mm:1"):
        with pytest.raises(ModelNotFoundError) as caught:
            store.resolve(text)
        assert "ai/m:1" in (caught.value.hint or "")
        assert "ai/m:1" in caught.value.facts["near"]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("smol-v1", ["local/smol-v1:Q4_1", "local/smol-v1:Q8_0"]),
        ("smol-v1:latest", ["local/smol-v1:Q4_1", "local/smol-v1:Q8_0"]),
        ("ghcr.io/team/smol-v1", ["local/smol-v1:Q4_1", "local/smol-v1:Q8_0"]),
        ("local/smol-v1:F16", ["local/smol-v1:Q4_1", "local/smol-v1:Q8_0"]),
        ("local/smol-v1", ["local/smol-v1:Q4_1", "local/smol-v1:Q8_0"]),
        ("ai/m", ["ai/m:1"]),
        ("local/m", ["ai/m:1"]),
        ("team/smol_v1", ["local/smol-v1:Q4_1", "local/smol-v1:Q8_0"]),
        ("nothing-alike", []),
    ],
)
def test_near_names_are_found_across_namespaces(store, add, text, near):
    add(docker_artifact(b"one"), "ai/m:1")
    add(docker_artifact(b"two"), "local/smol-v1:Q4_1")
    add(docker_artifact(b"three"), "local/smol-v1:Q8_0")
    with pytest.raises(ModelNotFoundError) as caught:
        store.resolve(text)
    assert sorted(caught.value.facts["near"]) == near


def test_name_made_on_this_machine_means_its_only_tag(tmp_path):
    said = []
    store = Store(tmp_path / "other", said.append)
    one = put(store, docker_artifact(b"one"), "local/x:Q4_1")
    put(store, docker_artifact(b"two"), "ai/y:Q4_1")
    assert store.resolve("local/x").digest == one.digest
    assert [name.short for name in said] == ["local/x:Q4_1"]
    # names of registries are completed with `latest` alone
    assert store.lookup("ai/y") is None
    assert store.lookup("local/x:latest") is None
    assert store.lookup("local/x", exact=True) is None
    put(store, docker_artifact(b"three"), "local/x:Q8_0")
    assert store.lookup("local/x") is None
    latest = put(store, docker_artifact(b"four"), "local/x:latest")
    assert store.resolve("local/x").digest == latest.digest
    assert len(said) == 1


def test_a_name_moves_from_one_model_to_the_next(store, add, model):
    other = add(docker_artifact(b"other"), "ai/m:latest")
    assert store.resolve("m").digest == other.digest
    assert names(store.resolve("m:1")) == ["docker.io/ai/m:1"]


def test_the_same_model_has_one_entry_however_often_it_is_added(store, add, artifact, model):
    add(artifact, "ai/m:1")
    add(artifact, "ai/m:2")
    (found,) = store.models()
    assert names(found) == [f"docker.io/ai/m:{tag}" for tag in ("1", "2", "latest")]


def test_a_model_added_without_a_name_has_none_but_its_id(store, add, artifact):
    model = add(artifact)
    assert store.models() == (model,)
    assert model.references == ()
    assert store.lookup(str(model.digest)) == model


def test_names_go_one_by_one_and_all_at_once(store, model):
    store.untag([Reference.parse("m:1")])
    assert names(store.models()[0]) == ["docker.io/ai/m:latest"]
    store.forget(model.digest)
    assert store.models() == ()


@pytest.mark.parametrize("gone", ["config", "layer", "manifest"])
def test_nothing_is_named_when_a_blob_is_missing(store, artifact, add, gone):
    manifest = add(artifact).manifest
    digests = {
        "config": manifest.config.digest,
        "layer": manifest.layers[0].digest,
        "manifest": manifest.digest,
    }
    if gone == "manifest":
        lose_after_put(store, digests[gone])
    else:
        store.blobs.path(digests[gone]).unlink()
    with pytest.raises(CorruptStoreError, match="missing blob"):
        store.add(manifest, [Reference.parse("ai/m")])
    (found,) = store.models()
    assert found.references == ()


def lose_after_put(store: Store, digest):
    """Another process removes the manifest between its filing and its naming."""
    entries = store.changing

    def changing():
        store.blobs.path(digest).unlink()
        return entries()

    store.changing = changing


def test_nothing_is_named_when_a_blob_is_damaged(store, artifact, add):
    manifest = add(artifact).manifest
    path = store.blobs.path(manifest.layers[0].digest)
    path.chmod(0o644)
    path.write_bytes(b"?" * manifest.layers[0].size)
    with pytest.raises(CorruptStoreError, match="damaged blob"):
        store.add(manifest, [Reference.parse("ai/m")])
    (found,) = store.models()
    assert found.references == ()


@pytest.mark.parametrize("damage", ["gone", "empty", "flipped"])
def test_a_damaged_manifest_spoils_no_other_model(store, add, model, damage):
    add(docker_artifact(b"other"), "ai/other")
    path = store.blobs.path(model.digest)
    raw = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(b"" if damage == "empty" else b"?" + raw[1:])
    found = {row.short_names[0]: row.problem for row in rows(store)}
    assert found["ai/other:latest"] is None
    assert str(model.digest) in found["ai/m:1"]
    with pytest.raises(CorruptStoreError):
        _ = store.resolve("m:1").manifest


def test_the_path_of_the_weights_ends_in_their_real_name(store, add):
    shards = add(modelpack_artifact([b"one", b"two"]), "ai/shards")
    path = shards.weights()
    assert path.name == "model-00001-of-00002.gguf"
    assert path.read_bytes() == b"one"
    assert (path.parent / "model-00002-of-00002.gguf").read_bytes() == b"two"


def test_weights_that_are_missing_have_no_path(store, model):
    store.blobs.path(model.manifest.layers[0].digest).unlink()
    with pytest.raises(CorruptStoreError, match=r"ai/m:1: the blob .* is missing"):
        store.resolve("m:1").weights()


def test_another_tools_image_is_listed_with_what_is_wrong_with_it(store, model, add):
    add(image_artifact(), "library/box")
    problems = {row.short_names[0]: row.problem for row in rows(store)}
    assert problems["library/box:latest"] == "this is a container image, not a model"
    with pytest.raises(UnsupportedArtifactError):
        store.resolve("library/box").weights()


def test_an_entry_that_is_an_index_spoils_nothing(store, model):
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    descriptor = Descriptor(
        OCI_INDEX, Manifest.from_bytes(model.manifest.raw).digest.of(raw), len(raw)
    )
    store.blobs.put(descriptor, raw)
    with store.changing() as entries:
        entries.append(Entry(Reference.parse("ai/index"), descriptor))
    assert {row.short_names[0] for row in rows(store) if row.problem} == {"ai/index:latest"}


def test_an_error_in_the_block_leaves_the_index_as_it_was(store, model):
    before = store.layout.index.read_bytes()

    def spoil():
        with store.changing() as entries:
            entries.clear()
            raise LookupError

    with pytest.raises(LookupError):
        spoil()
    assert store.layout.index.read_bytes() == before


def test_what_goes_wrong_while_blobs_arrive_is_not_blamed_on_the_store(store):
    with pytest.raises(PermissionError), store.arriving():
        raise PermissionError(13, "Permission denied", "/etc/ssl/key.pem")


def test_listing_a_thousand_models_reads_their_manifests_and_configs_once(store, add, artifact):
    add(artifact, "ai/m:0")
    entries = []
    for number in range(1000):
        raw = Manifest.from_bytes(docker_artifact(artifact.layers[0]).manifest).raw
        raw = raw[:-1] + f',"annotations":{{"n":"{number}"}}}}'.encode()
        descriptor = Descriptor(OCI_MANIFEST, Manifest.from_bytes(raw).digest, len(raw))
        store.layout.blob(descriptor.digest).write_bytes(raw)
        entries.append(Entry(Reference.parse(f"ai/m{number % 300}:{number}"), descriptor))
    config = docker_artifact(artifact.layers[0])
    manifest = Manifest.from_bytes(config.manifest)
    store.blobs.put(manifest.config, config.config)
    write_index(store.layout, entries)
    with opened_files() as opened:
        found = rows(store)
    assert len(found) == 1000
    assert not any(row.problem for row in found)
    assert len(opened) < 2.1 * len(found)
    with opened_files() as opened:
        assert store.resolve("m299:299").digest == entries[299].descriptor.digest
    assert len(opened) < 10
