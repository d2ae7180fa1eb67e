"""What refers to a manifest: of a list without end, what may be a signature."""

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.oci import referrers
from modelrunner.registry.oci.referrers import NotLookedAt, Referrer
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling
from tests.support.registry import Registry
from tests.support.signing import BUNDLE, Signer, bundle, signature_artifact

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


def found(store, registry):
    reference = Reference.parse(registry.reference("team/m:1"))
    (place,) = Pulling(store).places.referrers_of(reference)
    return list(place.source.referrers(place.reference, Digest.parse(MODEL.digest)))


@pytest.mark.parametrize("page", [None, 1, 5])
def test_all_pages_are_read_and_signatures_come_first(store, registry, page):
    registry.referrers_page_size = page
    entries = found(store, registry)
    assert len(entries) == 13
    assert [entry.artifact_type for entry in entries] == [BUNDLE, *[SBOM] * 12]


def test_only_so_many_are_looked_at_and_that_is_told(store, registry, monkeypatch):
    monkeypatch.setattr(referrers, "MOST", 3)
    *entries, rest = found(store, registry)
    assert [entry.artifact_type for entry in entries] == [BUNDLE, SBOM, SBOM]
    assert rest == NotLookedAt(3, 13)


def test_of_a_list_that_is_too_long_signatures_are_asked_for_by_type(store, registry, monkeypatch):
    monkeypatch.setattr(referrers, "MOST_LISTED", 4)
    registry.referrers_page_size = 2
    *entries, rest = found(store, registry)
    assert isinstance(entries[0], Referrer)
    assert entries[0].artifact_type == BUNDLE
    assert rest == NotLookedAt(5, None)


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
