"""What refers to a model comes with it, as far as it can be had, and is never why a pull fails."""

import json
import subprocess

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import referrers_tag
from modelrunner.operations.trust.signatures import Signers, signatures_of
from modelrunner.registry.oci.referrers import Allowance
from tests.support.artifacts import docker_artifact, index_artifact
from tests.support.pulling import Pulling
from tests.support.registry import Registry
from tests.support.signing import (
    BUNDLE,
    SIMPLE,
    Signer,
    attestation,
    bundle,
    signature_artifact,
    simple_signature,
)
from tests.support.waiting import wait_until

MODEL = docker_artifact(b"GGUF weights", license=b"free")
DIGEST = Digest.parse(MODEL.digest)
SBOM = "application/spdx+json"
SIGNER = Signer.make()

BUNDLED = bundle(SIGNER, MODEL)
TAGGED = simple_signature(SIGNER, MODEL.digest)
ATTESTED = attestation(SIGNER, MODEL.digest)
PARTS = signature_artifact(b'{"spdxVersion": "SPDX-2.3"}', SBOM, MODEL)
PARTS_BY_TAG = simple_signature(SIGNER, MODEL.digest + "0")
UNTYPED = signature_artifact(b"untyped", SIMPLE, MODEL)


@pytest.fixture
def registry():
    with Registry() as made:
        made.add(MODEL, "team/m", ["1"])
        yield made


@pytest.fixture
def name(registry):
    return registry.reference("team/m:1")


@pytest.fixture
def pulling(store):
    return Pulling(store)


def publish(registry, *, listed=(BUNDLED, PARTS, UNTYPED), tags=True):
    for artifact in listed:
        registry.add(artifact, "team/m")
    if tags:
        for artifact, suffix in ((TAGGED, ".sig"), (ATTESTED, ".att"), (PARTS_BY_TAG, ".sbom")):
            registry.add(artifact, "team/m", [referrers_tag(DIGEST, suffix)])


def kept(store):
    return {str(each.digest) for each in store.referrers_of(DIGEST)}


def digests(*artifacts):
    return {artifact.digest for artifact in artifacts}


SIGNATURES = digests(BUNDLED, UNTYPED, TAGGED, ATTESTED)
ALL = SIGNATURES | digests(PARTS, PARTS_BY_TAG)


@pytest.mark.parametrize("api", [True, False])
@pytest.mark.parametrize(("wanted", "expected"), [("signatures", SIGNATURES), ("all", ALL)])
def test_a_pull_keeps_what_was_chosen(registry, name, pulling, api, wanted, expected):
    publish(registry)
    if not api:
        registry.referrers_supported = False
        listed = index_artifact(BUNDLED, PARTS, UNTYPED)
        registry.add(listed, "team/m", [referrers_tag(DIGEST)])
    pulled = pulling.pull(name, wanted)
    assert kept(pulling.store) == expected
    assert (pulled.referrers.count, pulled.referrers.left_out) == (len(expected), None)
    assert pulled.referrers.problem is None
    assert pulled.referrers.size == sum(each.size for each in pulled.model.referrers)
    tags = {each.tag for each in pulled.model.referrers if each.tag}
    suffixes = (".sig", ".att", ".sbom") if wanted == "all" else (".sig", ".att")
    assert tags == {referrers_tag(DIGEST, suffix) for suffix in suffixes}
    for each in pulled.model.referrers:
        for blob in each.manifest.blobs:
            assert pulling.store.blobs.state(blob) == "good"


def test_nothing_is_asked_for_where_nothing_is_wanted(registry, name, pulling):
    publish(registry)
    pulled = pulling.pull(name, "none")
    assert (kept(pulling.store), pulled.referrers) == (set(), None)
    assert registry.count("GET", "referrers") == 0
    assert registry.count("GET", "manifest") == 1


def test_a_warm_pull_asks_for_nothing_more(registry, name, pulling):
    publish(registry)
    pulling.pull(name, "signatures")
    registry.forget()
    pulled = pulling.pull(name, "signatures")
    assert [request.method for request in registry.requests] == ["HEAD"]
    assert pulled.referrers is None
    assert kept(pulling.store) == SIGNATURES


def test_what_was_not_kept_can_be_asked_for_later(registry, name, pulling):
    publish(registry)
    pulling.pull(name)
    assert kept(pulling.store) == set()
    registry.forget()
    pulled = pulling.pull(name, "all", insists=True)
    assert (pulled.status, pulled.downloaded_bytes) == ("up-to-date", 0)
    assert pulled.referrers.count == len(ALL)
    assert kept(pulling.store) == ALL
    # what has come is not fetched twice
    registry.forget()
    pulling.pull(name, "all", insists=True)
    assert registry.count("GET", "blob") == 0


def test_new_signatures_are_added_to_those_that_are_kept(registry, name, pulling):
    publish(registry, listed=[BUNDLED], tags=False)
    pulling.pull(name, "signatures")
    other = bundle(Signer.make(), MODEL)
    registry.storage.repositories["team/m"].manifests.pop(BUNDLED.digest)
    registry.add(other, "team/m")
    pulling.pull(name, "signatures", insists=True)
    assert kept(pulling.store) == digests(BUNDLED, other)


def test_what_refers_to_another_model_is_not_kept(registry, name, pulling):
    registry.referrers_supported = False
    other = docker_artifact(b"GGUF other")
    transplanted = bundle(SIGNER, other)
    registry.add(index_artifact(transplanted, BUNDLED), "team/m", [referrers_tag(DIGEST)])
    pulling.pull(name, "all")
    assert kept(pulling.store) == digests(BUNDLED)


FAULTS = {
    "nothing found": {"status": 404},
    "a login": {"status": 401},
    "no": {"status": 403},
    "patience": {"status": 429, "headers": {"Retry-After": "0"}},
    "a failure": {"status": 500},
    "garbage": {"status": 200, "body": b"\xff\x00"},
    "a list": {"status": 200, "body": b"[]"},
    "deep nesting": {"status": 200, "body": b"[" * 100_000},
    "null": {"status": 200, "body": b'{"manifests": [null, {}, {"digest": 7}]}'},
    "a page": {"status": 200, "body": b"<html>", "headers": {"Content-Type": "text/html"}},
    "a page that is no address": {
        "status": 200,
        "body": b'{"manifests": []}',
        "headers": {"Link": "<http://[>; rel=next"},
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_registry_that_answers_with_anything_fails_no_pull(registry, name, pulling, fault):
    publish(registry, tags=False)
    registry.answer(times=None, on="referrers", **FAULTS[fault])
    pulled = pulling.pull(name, "signatures")
    assert pulled.status == "pulled"
    assert kept(pulling.store) == set()
    assert pulled.referrers.count == 0


@pytest.mark.parametrize("body", [b"\xff", b"{}", b'{"schemaVersion": 2, "config": 7}'])
def test_a_referrer_that_is_broken_fails_neither_the_pull_nor_the_others(
    registry, name, pulling, body
):
    publish(registry, tags=False)
    registry.answer(200, times=None, body=body, on="manifest", reference=BUNDLED.digest)
    pulled = pulling.pull(name, "all")
    assert pulled.status == "pulled"
    assert kept(pulling.store) == digests(PARTS, UNTYPED)


def test_a_blob_that_is_altered_fails_neither_the_pull_nor_the_others(registry, name, pulling):
    publish(registry, tags=False)
    registry.corrupt(BUNDLED.layer_digests[0])
    pulled = pulling.pull(name, "all")
    assert kept(pulling.store) == digests(PARTS, UNTYPED)
    assert pulled.referrers.count == 2
    assert "expected" in pulled.referrers.problem
    assert pulling.leftovers == []


@pytest.mark.parametrize("where", ["referrers", "manifest"])
def test_a_registry_that_hangs_is_waited_for_up_to_a_limit(registry, name, pulling, where):
    publish(registry, tags=False)
    aim = {"on": where} if where == "referrers" else {"on": where, "reference": BUNDLED.digest}
    registry.stall_after(0, 30, times=None, **aim)
    pulled = pulling.pull(name, "signatures", allowance=Allowance(seconds=0.4))
    assert pulled.status == "pulled"
    assert kept(pulling.store) == set()
    assert "limit of 0.4 s" in pulled.referrers.left_out


def test_a_limit_that_ends_the_last_of_them_is_told_too(registry, name, pulling):
    publish(registry, listed=[])
    registry.stall_after(0, 30, on="blob", reference=ATTESTED.layer_digests[0])
    pulled = pulling.pull(name, "signatures", allowance=Allowance(seconds=4))
    assert kept(pulling.store) == digests(TAGGED)
    assert "limit of 4 s" in pulled.referrers.left_out


def test_bytes_are_limited_and_that_is_told(registry, name, pulling):
    large = signature_artifact(bytes(3 * 1024 * 1024), BUNDLE, MODEL)
    publish(registry, listed=[large, BUNDLED], tags=False)
    pulled = pulling.pull(name, "signatures", allowance=Allowance(size=2 * 1024 * 1024))
    assert kept(pulling.store) == digests(BUNDLED)
    assert pulled.referrers.left_out == "a referrer is too large: limit of 2 MiB"
    assert not pulling.store.blobs.path(Digest.parse(large.layer_digests[0])).exists()


def test_of_ten_thousand_referrers_signatures_come_first_and_a_limit_is_told(
    registry, name, pulling
):
    for number in range(10_000):
        registry.add(signature_artifact(b"%d" % number, SBOM, MODEL), "team/m")
    registry.add(BUNDLED, "team/m")
    pulled = pulling.pull(name, "signatures")
    # of other types not even the manifests are asked for
    assert kept(pulling.store) == digests(BUNDLED)
    assert pulled.referrers.left_out is None
    registry.forget()
    limited = pulling.pull(name, "all", insists=True, allowance=Allowance(size=20_000))
    assert BUNDLED.digest in kept(pulling.store)
    assert 10 < limited.referrers.count < 100
    assert "of 10001 referrers were read: limit of" in limited.referrers.left_out


def test_a_mirrors_answer_is_enough(registry, pulling, store):
    publish(registry)
    away = "127.0.0.1:1"
    behind = Pulling(store, mirrors={away: (registry.url,)})
    pulled = behind.pull(f"{away}/team/m:1", "signatures")
    assert kept(store) == SIGNATURES
    assert pulled.referrers.problem is None


def test_where_a_mirror_fails_the_registry_is_asked(registry, store, name):
    publish(registry)
    with Registry() as mirror:
        mirror.add(MODEL, "team/m", ["1"])
        mirror.answer(500, times=None, on="referrers")
        behind = Pulling(store, mirrors={registry.host: (mirror.url,)})
        behind.pull(name, "signatures")
    assert kept(store) == SIGNATURES


def test_a_pull_that_ends_early_leaves_nothing_behind(registry, name, pulling):
    publish(registry)
    registry.answer(404, times=None, on="blob", reference=MODEL.layer_digests[0])
    with pytest.raises(Exception, match="does not have it"):
        pulling.pull(name, "signatures")
    assert pulling.store.models() == ()


@pytest.mark.parametrize("where", ["referrers", "manifest", "blob"])
def test_a_pull_that_is_killed_amid_signatures_keeps_them_the_next_time(registry, name, cli, where):
    publish(registry)
    reference = {"manifest": BUNDLED.digest, "blob": BUNDLED.layer_digests[0]}.get(where, "")
    stall = registry.stall_after(0, 30, on=where, reference=reference)
    with subprocess.Popen(
        cli.argv("pull", name, "--progress", "none"),
        env=cli.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as pull:
        stall.wait()
        # the weights are there, and wait for what refers to them
        weights = cli.store.blobs.path(Digest.parse(MODEL.layer_digests[0]))
        wait_until(weights.exists)
        pull.kill()
    assert cli.store.models() == ()
    assert cli("prune").returncode == 0
    assert cli("pull", name).returncode == 0
    assert kept(cli.store) == SIGNATURES
    assert cli("verify", "--deep").returncode == 0
    assert json.loads(cli("prune", "--json").stdout)["items"] == []


def test_a_flood_of_wrong_signatures_proves_nothing_and_a_limit_is_told(registry, name, store):
    for number in range(300):
        registry.add(signature_artifact(b"%d" % number, BUNDLE, MODEL), "team/m")
    registry.add(BUNDLED, "team/m")
    places = Pulling(store).places.referrers_of(Reference.parse(name), Allowance(size=30_000))
    found = signatures_of(places, Manifest.from_bytes(MODEL.manifest), Signers())
    assert not any(entry.counts for entry in found)
    assert any("of 301 referrers were read: limit of" in (each.problem or "") for each in found)
