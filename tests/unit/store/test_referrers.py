"""What refers to a model comes with it, stays with it, and goes with it."""

import json
from dataclasses import replace

import pytest

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer, referrers_tag
from modelrunner.operations.disk_usage import usage
from modelrunner.operations.lock.prune import carry_out, everything
from modelrunner.operations.remove import remove_model
from modelrunner.operations.verify import verify_store
from modelrunner.store import sweep
from modelrunner.store.index import read_index, write_index
from modelrunner.store.referrers import list_of
from tests.support.artifacts import docker_artifact
from tests.support.signing import (
    BUNDLE,
    Signer,
    bundle,
    signature_artifact,
    simple_signature,
)
from tests.support.stores import put, put_referrer

MODEL = docker_artifact(b"GGUF weights")
SBOM = "application/spdx+json"


@pytest.fixture
def model(store):
    return put(store, MODEL, "ai/m:1")


@pytest.fixture
def signature(store, model):
    return put_referrer(store, model, bundle(Signer.make(), MODEL))


def kept(store):
    return [each.digest for each in store.referrers_of(Digest.parse(MODEL.digest))]


def bad(store):
    return {entry.digest: entry.state for entry in verify_store(store, deep=True).bad}


def test_what_refers_to_a_model_is_kept_with_it(store, model, signature):
    sbom = put_referrer(store, model, signature_artifact(b"{}", SBOM, MODEL))
    found = {each.digest: each for each in store.resolve("ai/m:1").referrers}
    assert found == {signature.digest: signature, sbom.digest: sbom}
    assert {each.artifact_type for each in found.values()} == {BUNDLE, SBOM}


def test_nothing_refers_to_a_model_by_itself(store, model):
    assert model.referrers == ()
    assert kept(store) == []


def test_names_come_and_go_and_it_stays(store, model, signature):
    store.tag(model, Reference.parse("ai/other:2"))
    store.untag([Reference.parse("ai/m:1")])
    store.note_published(store.resolve("ai/other:2"))
    store.add(model.manifest, [Reference.parse("ai/other:2")])
    store.add(model.manifest, [Reference.parse("ai/third:3")])
    assert {list_of(entry.descriptor) for entry in read_index(store.layout)} == {
        list_of(store.resolve("ai/other:2").descriptor)
    }
    assert kept(store) == [signature.digest]


def test_a_name_that_an_older_version_has_added_does_no_harm(store, model, signature):
    store.tag(model, Reference.parse("ai/a:1"))
    entries = [
        entry._replace(descriptor=replace(entry.descriptor, annotations={}))
        if str(entry.reference) == "docker.io/ai/a:1"
        else entry
        for entry in read_index(store.layout)
    ]
    write_index(store.layout, entries)
    assert kept(store) == [signature.digest]
    assert [each.digest for each in store.resolve("ai/a:1").referrers] == [signature.digest]
    # and so it is once more, wherever the index is written next
    store.tag(model, Reference.parse("ai/b:1"))
    assert all(list_of(entry.descriptor) for entry in read_index(store.layout))


def test_the_name_that_an_older_version_has_left_out_may_be_the_last(store, model, signature):
    store.tag(model, Reference.parse("ai/a:1"))
    entries = [
        entry._replace(descriptor=replace(entry.descriptor, annotations={}))
        if str(entry.reference) == "docker.io/ai/a:1"
        else entry
        for entry in read_index(store.layout)
    ]
    write_index(store.layout, entries)
    store.untag([Reference.parse("ai/m:1")])
    assert kept(store) == [signature.digest]


def test_a_plan_of_removal_counts_it(store, model, signature):
    other = put(store, docker_artifact(b"GGUF other"), "ai/other:1")
    put_referrer(store, other, bundle(Signer.make(), docker_artifact(b"GGUF other")))
    plan = everything(store)
    assert sum(path.stat().st_size for path in store.layout.blobs.iterdir()) == plan.freed
    assert carry_out(store, plan).freed == plan.freed


def test_prune_leaves_it_and_removal_takes_it_away(store, model, signature):
    blobs = {signature.digest, *(blob.digest for blob in signature.manifest.blobs)}
    sweep.sweep(store, partials=True)
    assert all(store.blobs.path(digest).exists() for digest in blobs)
    remove_model(store, store.resolve("ai/m:1"))
    assert list(store.layout.blobs.iterdir()) == []


def test_what_another_model_needs_stays(store, model, signature):
    other = put(store, docker_artifact(b"GGUF other"), "ai/other:1")
    theirs = put_referrer(store, other, bundle(Signer.make(), docker_artifact(b"GGUF other")))
    # the empty config is of both
    assert signature.manifest.config == theirs.manifest.config
    remove_model(store, store.resolve("ai/m:1"))
    assert [each.digest for each in store.resolve("ai/other:1").referrers] == [theirs.digest]


def test_df_counts_it(store, model, signature):
    entries = {entry.kind: entry for entry in usage(store).entries}
    assert entries["Referrers"].count == 1
    listed = store.blobs.path(list_of(store.resolve("ai/m:1").descriptor)).stat().st_size
    assert entries["Referrers"].size == signature.size + listed
    assert entries["Models"].size == model.size + len(MODEL.manifest)


def test_what_an_older_versions_prune_has_removed_is_not_missed(store, model, signature):
    listed = list_of(store.resolve("ai/m:1").descriptor)
    store.blobs.path(listed).unlink()
    for blob in (signature.manifest.descriptor, *signature.manifest.blobs):
        store.blobs.path(blob.digest).unlink()
    assert kept(store) == []
    assert bad(store) == {}
    # and can be had again
    again = put_referrer(store, model, bundle(Signer.make(), MODEL))
    assert kept(store) == [again.digest]


@pytest.mark.parametrize("what", ["list", "manifest", "blob"])
def test_damage_is_found_and_does_no_harm_to_the_model(store, model, signature, what):
    other = put_referrer(store, model, signature_artifact(b"{}", SBOM, MODEL))
    digest = {
        "list": list_of(store.resolve("ai/m:1").descriptor),
        "manifest": signature.digest,
        "blob": signature.manifest.layers[0].digest,
    }[what]
    path = store.blobs.path(digest)
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + b"?")
    assert bad(store) == {str(digest): "damaged"}
    assert store.complete(Reference.parse("ai/m:1")) is not None
    assert (
        kept(store)
        == {
            "list": [],
            "manifest": [other.digest],
            # its content is looked at by whoever reads it
            "blob": sorted([signature.digest, other.digest]),
        }[what]
    )
    # prune goes on, and takes nothing of the model
    sweep.sweep(store, partials=True)
    assert store.complete(Reference.parse("ai/m:1")) is not None


def test_a_tag_stands_for_what_it_was_last_moved_to(store, model):
    tag = referrers_tag(model.digest, ".sig")
    put_referrer(store, model, simple_signature(Signer.make(), MODEL.digest), tag)
    new = put_referrer(store, model, simple_signature(Signer.make(), MODEL.digest), tag)
    (found,) = store.referrers_of(model.digest)
    assert (found.digest, found.tag) == (new.digest, tag)
    # what nothing names any more is for `prune`
    freed = [entry.path.name for entry in sweep.sweep(store, partials=False)]
    assert len(freed) == 2


def test_what_is_not_all_there_is_left_out(store, model, signature):
    manifest = Manifest.from_bytes(bundle(Signer.make(), MODEL).manifest)
    store.blobs.put(manifest.descriptor, manifest.raw)
    store.keep_referrers(model.digest, [Referrer.of(manifest)])
    assert kept(store) == [signature.digest]


def test_a_model_that_is_not_there_keeps_nothing(store, model, signature):
    store.keep_referrers(Digest.of(b"another"), [signature])
    assert store.referrers_of(Digest.of(b"another")) == ()


@pytest.mark.parametrize(
    "content",
    [b"no JSON", b"[]", b'{"manifests": 7}', b'{"manifests": [7, {"digest": "x"}]}'],
)
def test_a_list_that_is_nonsense_names_nothing(store, model, content):
    listed = Descriptor("", Digest.of(content), len(content))
    store.blobs.put(listed, content)
    raw = json.loads(store.layout.index.read_bytes())
    raw["manifests"][0]["annotations"]["vnd.modelrunner.referrers"] = str(listed.digest)
    store.layout.index.write_text(json.dumps(raw))
    assert kept(store) == []
    assert bad(store) == {}


@pytest.mark.parametrize("text", ["", "sha256:x", "../../etc/passwd"])
def test_an_annotation_that_is_not_a_digest_names_nothing(store, model, text):
    raw = json.loads(store.layout.index.read_bytes())
    raw["manifests"][0]["annotations"]["vnd.modelrunner.referrers"] = text
    store.layout.index.write_text(json.dumps(raw))
    assert kept(store) == []
    sweep.sweep(store, partials=True)
    assert store.complete(Reference.parse("ai/m:1")) is not None
