"""What refers to a model goes along with a push, whatever the registry knows of referrers."""

import json

import pytest

from modelrunner.errors import TransferError
from modelrunner.oci.digest import Digest
from modelrunner.oci.referrers import referrers_tag
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact, index_artifact
from tests.support.docker_registry import docker_registry, needs_docker_registry
from tests.support.pulling import Pulling
from tests.support.registry import Registry
from tests.support.signing import (
    Signer,
    attestation,
    bundle,
    signature_artifact,
    simple_signature,
)
from tests.support.stores import put, put_referrer

MODEL = docker_artifact(b"GGUF weights" * 1000, license=b"free")
DIGEST = Digest.parse(MODEL.digest)
SIG, ATT = referrers_tag(DIGEST, ".sig"), referrers_tag(DIGEST, ".att")
SBOM = "application/spdx+json"

SIGNER = Signer.make()
BUNDLED = bundle(SIGNER, MODEL)
TAGGED = simple_signature(SIGNER, MODEL.digest)
ATTESTED = attestation(SIGNER, MODEL.digest)
PARTS = signature_artifact(b'{"spdxVersion": "SPDX-2.3"}', SBOM, MODEL)
KEPT = {BUNDLED.digest: None, PARTS.digest: None, TAGGED.digest: SIG, ATTESTED.digest: ATT}


@pytest.fixture
def registry():
    with Registry() as made:
        yield made


@pytest.fixture
def pulling(store):
    return Pulling(store)


@pytest.fixture
def model(store):
    model = put(store, MODEL, "ai/m:1")
    put_referrer(store, model, BUNDLED)
    put_referrer(store, model, PARTS)
    put_referrer(store, model, TAGGED, SIG)
    put_referrer(store, model, ATTESTED, ATT)
    return store.resolve("ai/m:1")


def kept_by_pull(tmp_path, name):
    """What another machine has after a pull."""
    other = Pulling(Store(tmp_path / "other" / "store"))
    other.pull(name, "all")
    return {str(each.digest): each.tag for each in other.store.referrers_of(DIGEST)}


def listed(registry, repository="team/m"):
    raw = registry.manifest_bytes(repository, referrers_tag(DIGEST))
    return [entry["digest"] for entry in json.loads(raw)["manifests"]]


def puts(registry):
    return [
        request.reference
        for request in registry.requests
        if (request.kind, request.method) == ("manifest", "PUT")
    ]


@pytest.mark.parametrize("api", [True, False])
def test_what_refers_to_a_model_goes_along(registry, pulling, model, tmp_path, api):
    registry.referrers_supported = api
    name = registry.reference("team/m:1")
    pushed = pulling.push(model, name)
    assert (pushed.referrers.count, pushed.referrers.problems) == (4, ())
    assert pushed.uploaded_bytes == MODEL.size
    # the name comes last: who sees it sees the signatures
    assert puts(registry)[-1] == "1"
    assert puts(registry)[0] == MODEL.digest
    assert set(registry.tags("team/m")) == {"1", SIG, ATT} | (
        set() if api else {referrers_tag(DIGEST)}
    )
    assert kept_by_pull(tmp_path, name) == KEPT


def test_a_model_to_which_nothing_refers_is_pushed_as_before(registry, pulling):
    pushed = pulling.push(put(pulling.store, MODEL, "ai/m:1"), registry.reference("team/m:1"))
    assert pushed.referrers is None
    assert puts(registry) == ["1"]
    assert registry.count("GET") == 0


@pytest.mark.parametrize("api", [True, False])
def test_a_second_push_changes_nothing(registry, pulling, model, api):
    registry.referrers_supported = api
    name = registry.reference("team/m:1")
    pulling.push(model, name)
    before = registry.tags("team/m")
    registry.forget()
    pushed = pulling.push(model, name)
    assert (pushed.uploaded_bytes, pushed.referrers.count) == (0, 4)
    assert registry.tags("team/m") == before
    assert registry.count("POST", "upload") == 0


def test_the_list_that_others_have_begun_is_added_to(registry, pulling, model):
    registry.referrers_supported = False
    theirs = signature_artifact(b"theirs", SBOM, MODEL)
    begun = index_artifact(theirs)
    # what others say of theirs stays as it is
    value = json.loads(begun.manifest)
    value["manifests"][0] |= {"artifactType": SBOM, "annotations": {"by": "them"}}
    edited = type(begun)(json.dumps(value).encode(), begun.media_type, {}, begun.children)
    registry.add(edited, "team/m", [referrers_tag(DIGEST)])
    pulling.push(model, registry.reference("team/m:1"))
    assert set(listed(registry)) == {theirs.digest, BUNDLED.digest, PARTS.digest}
    raw = json.loads(registry.manifest_bytes("team/m", referrers_tag(DIGEST)))
    assert raw["manifests"][0] == value["manifests"][0]
    assert {entry["artifactType"] for entry in raw["manifests"]} == {
        SBOM,
        "application/vnd.dev.sigstore.bundle.v0.3+json",
    }


def test_what_is_no_list_under_its_tag_stays(registry, pulling, model):
    registry.referrers_supported = False
    registry.add(TAGGED, "team/m", [referrers_tag(DIGEST)])
    pushed = pulling.push(model, registry.reference("team/m:1"))
    assert registry.tags("team/m")[referrers_tag(DIGEST)] == TAGGED.digest
    assert pushed.referrers.count == 2
    (problem,) = pushed.referrers.problems
    assert "something else than a list of referrers" in problem
    assert registry.tags("team/m")["1"] == MODEL.digest


def two_signatures(first, second):
    """Both layers under one tag, as cosign adds them."""
    one, two = json.loads(first.manifest), json.loads(second.manifest)
    one["layers"] += two["layers"]
    return type(first)(json.dumps(one).encode(), first.media_type, first.blobs | second.blobs)


def test_other_signatures_under_a_tag_are_not_overwritten(registry, pulling, model):
    theirs = simple_signature(Signer.make(), MODEL.digest)
    registry.add(theirs, "team/m", [SIG])
    pushed = pulling.push(model, registry.reference("team/m:1"))
    assert registry.tags("team/m")[SIG] == theirs.digest
    assert pushed.referrers.count == 3
    (problem,) = pushed.referrers.problems
    assert f"other signatures under the tag {SIG}: they stay" in problem


def test_fewer_signatures_under_a_tag_are_replaced_by_all_of_them(registry, store, pulling):
    theirs = simple_signature(Signer.make(), MODEL.digest)
    registry.add(theirs, "team/m", [SIG])
    both = two_signatures(theirs, TAGGED)
    model = put(store, MODEL, "ai/m:1")
    put_referrer(store, model, both, SIG)
    pushed = pulling.push(store.resolve("ai/m:1"), registry.reference("team/m:1"))
    assert pushed.referrers.problems == ()
    assert registry.tags("team/m")[SIG] == both.digest


def test_what_a_registry_refuses_is_told_and_the_model_is_there(registry, pulling, model):
    registry.answer(400, times=None, on="manifest", method="PUT", reference=PARTS.digest)
    pushed = pulling.push(model, registry.reference("team/m:1"))
    assert registry.tags("team/m")["1"] == MODEL.digest
    assert pushed.referrers.count == 3
    (problem,) = pushed.referrers.problems
    assert problem.startswith(f"{SBOM}: ")


def test_a_registry_that_fails_meanwhile_has_no_name_for_the_model(registry, pulling, model):
    registry.answer(503, times=None, on="manifest", method="PUT", reference=PARTS.digest)
    with pytest.raises(TransferError):
        pulling.push(model, registry.reference("team/m:1"))
    assert "1" not in registry.tags("team/m")
    registry.calm()
    assert pulling.push(model, registry.reference("team/m:1")).referrers.count == 4


def test_a_failure_that_passes_is_tried_again(registry, pulling, model):
    registry.answer(503, times=1, on="manifest", method="PUT", reference=PARTS.digest)
    assert pulling.push(model, registry.reference("team/m:1")).referrers.count == 4


def test_damaged_signatures_stay_behind(registry, store, pulling, model):
    path = store.blobs.path(Digest.parse(BUNDLED.layer_digests[0]))
    path.chmod(0o644)
    path.write_bytes(b"?")
    assert pulling.push(model, registry.reference("team/m:1")).referrers.count == 3


@needs_docker_registry
def test_a_registry_without_the_api_keeps_a_list_that_every_client_finds(
    pulling, model, tmp_path
) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        name = registry.reference("team/m:1")
        pushed = pulling.push(model, name)
        assert (pushed.referrers.count, pushed.referrers.problems) == (4, ())
        assert kept_by_pull(tmp_path, name) == KEPT
        again = pulling.push(model, name)
        assert (again.referrers.count, again.uploaded_bytes) == (4, 0)
