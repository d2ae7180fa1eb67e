"""A shared store answers what refers to its models, by the specification's book."""

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.oci.referrers import referrers_tag
from modelrunner.share.server import sharing
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling
from tests.support.registry_client import ask
from tests.support.signing import BUNDLE, Signer, bundle, signature_artifact, simple_signature
from tests.support.stores import put, put_referrer

MODEL = docker_artifact(b"GGUF weights" * 100)
OTHER = docker_artifact(b"GGUF other")
DIGEST = Digest.parse(MODEL.digest)
SIG = referrers_tag(DIGEST, ".sig")
SBOM = "application/spdx+json"
INDEX = "application/vnd.oci.image.index.v1+json"

BUNDLED = bundle(Signer.make(), MODEL)
PARTS = signature_artifact(b"{}", SBOM, MODEL)
TAGGED = simple_signature(Signer.make(), MODEL.digest)


@pytest.fixture
def shared(store):
    model = put(store, MODEL, "ai/m:1", "ghcr.io/team/m:2")
    put(store, OTHER, "ai/other:1", "ai/m:other")
    put_referrer(store, model, BUNDLED)
    put_referrer(store, model, PARTS)
    put_referrer(store, model, TAGGED, SIG)
    with sharing(store) as server:
        yield server


def get(shared, path, method="GET", **headers):
    return ask(f"{shared.address}/v2/{path}", method, **headers)


def entry(artifact, kind):
    return {
        "mediaType": artifact.media_type,
        "digest": artifact.digest,
        "size": len(artifact.manifest),
        "artifactType": kind,
    }


@pytest.mark.parametrize("repository", ["ai/m", "ghcr.io/team/m", "_"])
def test_what_refers_to_a_model_is_listed(shared, repository):
    answer = get(shared, f"{repository}/referrers/{MODEL.digest}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, INDEX)
    assert answer.headers.get("OCI-Filters-Applied") is None
    entries = sorted((entry(BUNDLED, BUNDLE), entry(PARTS, SBOM)), key=lambda one: one["digest"])
    assert answer.json == {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}


@pytest.mark.parametrize(
    ("kind", "found"), [(SBOM, [entry(PARTS, SBOM)]), ("application/x", []), ("", [])]
)
def test_a_list_is_filtered_by_type(shared, kind, found):
    answer = get(shared, f"ai/m/referrers/{MODEL.digest}?artifactType={kind.replace('+', '%2B')}")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert answer.json["manifests"] == found


def test_nothing_refers_to_another_model(shared):
    assert get(shared, f"ai/m/referrers/{OTHER.digest}").json["manifests"] == []
    # nor does a model of another repository tell
    assert get(shared, f"ai/other/referrers/{MODEL.digest}").json["manifests"] == []
    assert get(shared, f"ai/other/manifests/{BUNDLED.digest}").status == 404
    assert get(shared, f"ai/other/blobs/{BUNDLED.layer_digests[0]}").status == 404


def test_a_list_has_a_head(shared):
    full = get(shared, f"ai/m/referrers/{MODEL.digest}")
    head = get(shared, f"ai/m/referrers/{MODEL.digest}", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(full.body))


@pytest.mark.parametrize("artifact", [BUNDLED, PARTS, TAGGED])
def test_their_manifests_and_blobs_are_served(shared, artifact):
    answer = get(shared, f"ai/m/manifests/{artifact.digest}")
    assert (answer.status, answer.body) == (200, artifact.manifest)
    assert answer.headers["Content-Type"] == artifact.media_type
    assert answer.headers["Docker-Content-Digest"] == artifact.digest
    for digest, content in artifact.blobs.items():
        assert get(shared, f"ai/m/blobs/{digest}").body == content


def test_cosigns_tag_is_one(shared):
    assert get(shared, f"ai/m/manifests/{SIG}").body == TAGGED.manifest
    assert get(shared, "ai/m/tags/list").json["tags"] == ["1", "other", SIG]
    assert get(shared, "ai/other/tags/list").json["tags"] == ["1"]
    assert get(shared, f"ai/other/manifests/{SIG}").status == 404


@pytest.mark.parametrize("what", ["a name", "a mirror"])
def test_a_pull_from_a_shared_store_brings_what_refers_to_a_model(shared, tmp_path, what):
    host = shared.address.removeprefix("http://")
    away = "127.0.0.1:1"
    put(shared.store, MODEL, f"{away}/team/m:1")
    other = Store(tmp_path / "other" / "store")
    if what == "a name":
        Pulling(other).pull(f"{host}/ai/m:1", "all")
    else:
        mirrors = {away: (shared.address,)}
        Pulling(other, mirrors=mirrors).pull(f"{away}/team/m:1", "all")
    kept = {str(each.digest): each.tag for each in other.referrers_of(DIGEST)}
    assert kept == {BUNDLED.digest: None, PARTS.digest: None, TAGGED.digest: SIG}
