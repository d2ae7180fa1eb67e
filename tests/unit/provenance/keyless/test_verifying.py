"""Signatures without a key: what cannot be held against anything is refused."""

import json
from pathlib import Path

import pytest

from modelrunner.errors import ConfigError
from modelrunner.provenance.keyless.verifying import NotVerifiedError, verify_bundle
from tests.support.artifacts import docker_artifact
from tests.support.authority import certified
from tests.support.signing import keyless_bundle

MODEL = docker_artifact(b"weights")


@pytest.fixture
def root() -> Path:
    """The public Sigstore's root, as its own package brings it."""
    import sigstore

    folder = Path(sigstore.__file__).parent / "_store"
    (found,) = folder.glob("*tuf-repo-cdn.sigstore.dev/trusted_root.json")
    return found


@pytest.mark.parametrize(
    "bundle",
    [
        b"{}",
        b"no json",
        json.dumps({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}).encode(),
        keyless_bundle(MODEL).layers[0],
    ],
)
def test_what_proves_nothing_is_refused(root: Path, bundle: bytes) -> None:
    with pytest.raises(NotVerifiedError):
        verify_bundle(
            bundle, MODEL.manifest, identity="somebody@example.com", issuer=None, trusted_root=root
        )


@pytest.mark.parametrize("version", [4, 5])
def test_a_certificate_of_an_unknown_version_is_refused(root: Path, version: int) -> None:
    leaf = certified("leaf", mail="somebody@example.com")
    before = bytes.fromhex("a003020102")
    odd = leaf.der.replace(before, before[:-1] + bytes((version,)), 1)
    bundle = keyless_bundle(MODEL, odd).layers[0]

    with pytest.raises(NotVerifiedError, match=f"{version} is not a valid X509 version"):
        verify_bundle(
            bundle, MODEL.manifest, identity="somebody@example.com", issuer=None, trusted_root=root
        )


def test_a_root_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text("{}")
    for path in (tmp_path / "root.json", tmp_path / "none.json"):
        with pytest.raises(ConfigError, match="trusted root"):
            verify_bundle(b"{}", b"", identity="x", issuer=None, trusted_root=path)
