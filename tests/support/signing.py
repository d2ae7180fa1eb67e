"""Signatures as cosign makes them, with keys of the tests' own."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.artifacts import OCI_MANIFEST, Artifact

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT = "application/vnd.in-toto+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"


@dataclass(frozen=True)
class Signer:
    """A pair of keys: `p256` as cosign makes them, `p384`, `ed25519` or `rsa`."""

    key: Any

    @classmethod
    def make(cls, kind: str = "p256") -> "Signer":
        makers = {
            "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
            "ed25519": ed25519.Ed25519PrivateKey.generate,
            "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        }
        return cls(makers[kind]())

    def publish(self, path: Path) -> Path:
        """Writes the public key in PEM; its path."""
        public = self.key.public_key()
        path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return path

    def sign(self, content: bytes) -> bytes:
        match self.key:
            case ec.EllipticCurvePrivateKey():
                return self.key.sign(content, ec.ECDSA(hashes.SHA256()))
            case rsa.RSAPrivateKey():
                return self.key.sign(content, padding.PKCS1v15(), hashes.SHA256())
            case _:
                return self.key.sign(content)


def simple_signature(signer: Signer, digest: str) -> Artifact:
    """What `cosign sign --key` keeps under the tag `sha256-HEX.sig`."""
    payload = {
        "critical": {
            "identity": {"docker-reference": ""},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    content = json.dumps(payload, separators=(",", ":")).encode()
    annotations = {"dev.cosignproject.cosign/signature": _encoded(signer.sign(content))}
    return _artifact(SIMPLE, content, annotations)


def attestation(signer: Signer, digest: str, predicate: str = PROVENANCE) -> Artifact:
    """What `cosign attest --key` keeps under the tag `sha256-HEX.att`."""
    content = json.dumps(_envelope(signer, digest, predicate)).encode()
    return _artifact(ENVELOPE, content, {"predicateType": predicate})


def bundle(
    signer: Signer, subject: Artifact, *, predicate: str = SIGN, digest: str | None = None
) -> Artifact:
    """A Sigstore bundle that refers to a manifest, as newer versions of cosign keep it."""
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
        "dsseEnvelope": _envelope(signer, digest or subject.digest, predicate),
    }
    return _artifact(BUNDLE, json.dumps(document).encode(), {}, kind=BUNDLE, subject=subject)


def certified_bundle(
    signer: Signer,
    subject: Artifact,
    chain: list[bytes],
    stamp: Callable[[bytes], bytes] | None = None,
) -> Artifact:
    """A bundle with the certificates of an authority of one's own, in DER, the signer's first.

    `stamp` returns the timestamp of a signature.
    """
    envelope = _envelope(signer, subject.digest, SIGN)
    made = base64.b64decode(envelope["signatures"][0]["sig"])  # type: ignore[index]
    stamps = [] if stamp is None else [{"signedTimestamp": _encoded(stamp(made))}]
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {
            "x509CertificateChain": {
                "certificates": [{"rawBytes": _encoded(each)} for each in chain]
            },
            "tlogEntries": [],
            "timestampVerificationData": {"rfc3161Timestamps": stamps},
        },
        "dsseEnvelope": envelope,
    }
    return _artifact(BUNDLE, json.dumps(document).encode(), {}, kind=BUNDLE, subject=subject)


def message_bundle(signer: Signer, subject: Artifact) -> Artifact:
    """A bundle that signs the manifest's bytes themselves."""
    hashed = hashlib.sha256(subject.manifest).digest()
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": _encoded(hashed)},
            "signature": _encoded(signer.sign(subject.manifest)),
        },
    }
    return _artifact(BUNDLE, json.dumps(document).encode(), {}, kind=BUNDLE, subject=subject)


def keyless_bundle(subject: Artifact, certificate: bytes = b"no certificate") -> Artifact:
    """A bundle that claims to be made with a certificate, and proves nothing."""
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {
            "certificate": {"rawBytes": _encoded(certificate)},
            "tlogEntries": [],
        },
        "dsseEnvelope": _envelope(Signer.make(), subject.digest, SIGN),
    }
    return _artifact(BUNDLE, json.dumps(document).encode(), {}, kind=BUNDLE, subject=subject)


def signature_artifact(
    content: bytes, kind: str, subject: Artifact, *, layer: str | None = None
) -> Artifact:
    """Whatever is said to be a signature."""
    return _artifact(layer or kind, content, {}, kind=kind, subject=subject)


def _envelope(signer: Signer, digest: str, predicate: str) -> dict[str, object]:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "", "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": predicate,
        "predicate": {},
    }
    payload = json.dumps(statement).encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(STATEMENT), STATEMENT.encode(), len(payload), payload)
    return {
        "payload": _encoded(payload),
        "payloadType": STATEMENT,
        "signatures": [{"sig": _encoded(signer.sign(signed))}],
    }


def _artifact(
    media_type: str,
    content: bytes,
    annotations: dict[str, str],
    *,
    kind: str = "",
    subject: Artifact | None = None,
) -> Artifact:
    config = b"{}"
    layer: dict[str, object] = {**_described(media_type, content), "annotations": annotations}
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _described("application/vnd.oci.empty.v1+json", config),
        "layers": [layer],
    }
    if kind:
        document["artifactType"] = kind
    if subject is not None:
        document["subject"] = _described(subject.media_type, subject.manifest)
    blobs = {_digest(blob): blob for blob in (config, content)}
    return Artifact(json.dumps(document).encode(), OCI_MANIFEST, blobs)


def _described(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
