"""What refers to a manifest: of a list without end, what may be a signature."""

import time

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer
from modelrunner.registry.oci import referrers
from modelrunner.registry.oci.referrers import Allowance, NotLookedAt
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling
from tests.support.registry import Registry
from tests.support.registry_storage import StoredManifest
from tests.support.signing import BUNDLE, Signer, bundle, signature_artifact, simple_signature

MODEL = docker_artifact(b"GGUF weights")
SBOM = "application/spdx+json"


@pytest.fixture
def registry():
    with Registry() as made:
        made.add(MODEL, "team/m", ["1"])
        for number in range(12):
            made.add(signature_artifact(b"%d" % number, SBOM, MODEL), "team/m")
        made.add(bundle(Signer.make(), MODEL), "team/m")
        yield made


def found(store, registry, allowance=None):
    reference = Reference.parse(registry.reference("team/m:1"))
    (place,) = Pulling(store).places.referrers_of(reference, allowance)
    return list(place.source.referrers(place.reference, Digest.parse(MODEL.digest)))


@pytest.mark.parametrize("page", [None, 1, 5])
def test_all_pages_are_read_and_signatures_come_first(store, registry, page):
    registry.referrers_page_size = page
    entries = found(store, registry)
    assert len(entries) == 13
    assert [entry.artifact_type for entry in entries] == [BUNDLE, *[SBOM] * 12]


def test_bytes_are_limited_and_that_is_told(store, registry):
    *entries, rest = found(store, registry, Allowance(size=1))
    assert [entry.artifact_type for entry in entries] == [BUNDLE]
    assert rest == NotLookedAt(1, 13, "0 MiB")


def test_time_is_limited_and_that_is_told(store, registry):
    spent = iter([0, 1, *[61] * 9])
    begun = time.monotonic()
    *entries, rest = found(store, registry, Allowance(clock=lambda: begun + next(spent)))
    assert [entry.artifact_type for entry in entries] == [BUNDLE, SBOM]
    assert str(rest) == "only 2 of 13 referrers were read: limit of 60 s"


def test_a_registry_that_hangs_is_not_waited_for_beyond_the_limit(store, registry):
    registry.stall_after(0, 30, on="manifest")
    *entries, rest = found(store, registry, Allowance(seconds=4))
    assert entries == []
    assert rest == NotLookedAt(0, 13, "4 s")


def test_of_a_list_that_is_too_long_signatures_are_asked_for_by_type(store, registry, monkeypatch):
    monkeypatch.setattr(referrers, "LIST_BYTES", 1)
    registry.referrers_page_size = 2
    *entries, rest = found(store, registry)
    assert isinstance(entries[0], Referrer)
    assert entries[0].artifact_type == BUNDLE
    assert rest == NotLookedAt(3, None, "0 MiB for the list")


def test_cosigns_tags_are_looked_at_before_a_long_list_is_read_to_its_end(store, registry):
    for number in range(40):
        registry.add(signature_artifact(b"x%d" % number, BUNDLE, MODEL), "team/m")
    signature = simple_signature(Signer.make(), MODEL.digest)
    registry.add(signature, "team/m", [MODEL.digest.replace(":", "-") + ".sig"])
    entries = found(store, registry)
    assert len(entries) == 54
    assert [entry.manifest.digest for entry in entries].index(Digest.parse(signature.digest)) == 16


def test_a_referrer_that_is_broken_takes_nothing_from_the_others(store, registry):
    wrong = signature_artifact(b"wrong", BUNDLE, MODEL)
    there = registry.storage.make_repository("team/m")
    manifest = StoredManifest(wrong.manifest, wrong.media_type)
    there.manifests[manifest.digest] = manifest
    registry.answer(200, body=b"no manifest", on="manifest", times=1)
    assert len(found(store, registry)) == 13


def test_page_that_leads_back_ends_the_list(store, registry):
    registry.referrers_page_size = 5
    link = f"</v2/team/m/referrers/{MODEL.digest}>; rel=next"
    registry.answer(
        200,
        times=None,
        on="referrers",
        headers={"Link": link, "Content-Type": "application/json"},
        body=b'{"manifests": []}',
    )
    assert found(store, registry) == []
