"""What refers to a manifest: how it is recognized, and what people read of it."""

import pytest

from modelrunner.errors import MalformedManifestError
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.referrers import (
    Referrer,
    entries_in,
    kept_list,
    likeness,
    referrers_tag,
    refers_to,
)
from tests.support.artifacts import docker_artifact
from tests.support.signing import (
    ENVELOPE,
    SIMPLE,
    Signer,
    bundle,
    signature_artifact,
    simple_signature,
)

MODEL = docker_artifact(b"GGUF")
DIGEST = Digest.parse(MODEL.digest)


def referrer(kind, content=b"{}", tag=None):
    artifact = signature_artifact(content, kind, MODEL)
    return Referrer.of(Manifest.from_bytes(artifact.manifest), tag)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("application/vnd.dev.sigstore.bundle.v0.3+json", "signature"),
        ("application/vnd.dev.cosign.artifact.sig.v1+json", "signature"),
        ("application/vnd.cncf.notary.signature", "signature"),
        (SIMPLE, "signature"),
        (ENVELOPE, "attestation"),
        ("application/vnd.in-toto+json", "attestation"),
        ("application/spdx+json", "SBOM"),
        ("application/vnd.cyclonedx+json", "SBOM"),
        ("application/vnd.acme.license", "license"),
        ("application/vnd.acme.notes", "application/vnd.acme.notes"),
    ],
)
def test_types_have_a_word_for_people(kind, word):
    assert referrer(kind).kind == word


@pytest.mark.parametrize(
    ("suffix", "word"), [(".sig", "signature"), (".att", "attestation"), (".sbom", "SBOM")]
)
def test_cosigns_tags_have_a_word_for_people(suffix, word):
    manifest = Manifest.from_bytes(simple_signature(Signer.make(), MODEL.digest).manifest)
    assert Referrer.of(manifest, referrers_tag(DIGEST, suffix)).kind == word


def test_signatures_come_before_what_says_nothing_and_that_before_the_rest():
    kinds = ["application/spdx+json", "", "application/vnd.dev.sigstore.bundle.v0.3+json"]
    assert sorted(kinds, key=likeness) == kinds[::-1]


def test_a_manifest_refers_to_its_subject_alone():
    manifest = Manifest.from_bytes(bundle(Signer.make(), MODEL).manifest)
    assert refers_to(manifest, DIGEST)
    assert not refers_to(manifest, Digest.of(b"another"))
    without = Manifest.from_bytes(simple_signature(Signer.make(), MODEL.digest).manifest)
    assert not refers_to(without, DIGEST)


@pytest.mark.parametrize("subject", ["7", "[]", '{"digest": "x"}', '"text"'])
def test_a_subject_that_is_malformed_is_none(subject):
    raw = bundle(Signer.make(), MODEL).manifest
    start = raw.index(b'"subject": ') + len(b'"subject": ')
    manifest = Manifest.from_bytes(raw[:start] + subject.encode() + b"}")
    assert not refers_to(manifest, DIGEST)


def test_a_kept_list_is_read_as_it_was_written():
    manifest = Manifest.from_bytes(simple_signature(Signer.make(), MODEL.digest).manifest)
    tag = referrers_tag(DIGEST, ".sig")
    tagged, listed = Referrer.of(manifest, tag), referrer("application/spdx+json")
    raw = kept_list([tagged, listed])
    assert raw == kept_list([listed, tagged])
    found = {(entry.digest, kind, tag) for entry, kind, tag in entries_in(raw)}
    assert found == {
        (tagged.digest, "application/vnd.oci.empty.v1+json", tag),
        (listed.digest, "application/spdx+json", None),
    }


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"{" * 10])
def test_what_is_not_a_list_is_refused(raw):
    with pytest.raises(MalformedManifestError):
        entries_in(raw)
