"""Signatures of ours: Sigstore bundles over in-toto statements, as cosign 3 makes them with a key.

Such a bundle is in no transparency log, so cosign verifies it with `--private-infrastructure`, or
`--insecure-ignore-tlog`. Sources: sigstore `protobuf-specs` (bundle v0.3), the in-toto attestation
specification, cosign `cmd/cosign/cli/sign/sign.go` and `pkg/oci/remote/write.go`.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from modelrunner.errors import UsageError
from modelrunner.oci.digest import Digest
from modelrunner.provenance.keys import PublicKey
from modelrunner.provenance.signatures import SIGN_PREDICATE, STATEMENT, pre_authentication
from modelrunner.provenance.signing_keys import SigningKey

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
CONTENT_ANNOTATION = "dev.sigstore.bundle.content"
PREDICATE_ANNOTATION = "dev.sigstore.bundle.predicateType"

PREDICATE_TYPES = {
    "slsaprovenance": "https://slsa.dev/provenance/v1",
    "spdx": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
    "openvex": "https://openvex.dev/ns",
}
"""Short names of what is attested; any URI is one by itself."""


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """A bundle, and who has made it.

    Attributes:
        raw: The bundle in JSON.
        predicate_type: What it says of its subject, as a type.
        public: The key that verifies it.
        identity: Whom the certificate of that key is for; None where it has none.
        issuer: The identity provider that said so.
    """

    raw: bytes
    predicate_type: str
    public: PublicKey
    identity: str | None = None
    issuer: str | None = None

    @property
    def annotations(self) -> Mapping[str, str]:
        """What its manifest says of it, as cosign has it."""
        return {CONTENT_ANNOTATION: "dsse-envelope", PREDICATE_ANNOTATION: self.predicate_type}


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A statement about a manifest, as it is signed.

    Attributes:
        predicate_type: What it says, as a type.
        payload: The statement in JSON.
    """

    predicate_type: str
    payload: bytes

    @classmethod
    def about(
        cls,
        digest: Digest,
        predicate_type: str = f"{SIGN_PREDICATE}v1",
        predicate: Mapping[str, Any] | None = None,
    ) -> "Unsigned":
        """Return the statement.

        Args:
            digest: The manifest.
            predicate_type: What it says, as a type; without one it only signs.
            predicate: What it says.
        """
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": digest.hex}}],
            "predicateType": predicate_type,
            "predicate": dict(predicate or {}),
        }
        return cls(predicate_type, json.dumps(statement, separators=(",", ":")).encode())

    @property
    def signed(self) -> bytes:
        """The bytes that a signature is over."""
        return pre_authentication(STATEMENT, self.payload)

    def envelope(self, signature: bytes) -> Mapping[str, Any]:
        """Return the statement with its signature."""
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": STATEMENT,
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        }

    def bundle(self, signature: bytes, material: Mapping[str, Any]) -> bytes:
        """Return the bundle of a signature, and of what it is verified with, in JSON."""
        document = {
            "mediaType": BUNDLE,
            "verificationMaterial": material,
            "dsseEnvelope": self.envelope(signature),
        }
        return json.dumps(document, separators=(",", ":")).encode()


class StatementSigner(Protocol):
    """Whoever signs statements: a key, or an identity."""

    def sign(self, statement: Unsigned) -> SignedBundle:
        """Sign a statement.

        Raises:
            AccessError: It is not signed.
        """
        ...


@dataclass(frozen=True, slots=True)
class KeySigner:
    """Signs with a key."""

    key: SigningKey

    def sign(self, statement: Unsigned) -> SignedBundle:
        """Sign a statement.

        Raises:
            SigningKeyError: The key does not sign.
        """
        signed = self.key.sign(statement.signed)
        # of the key's DER, which is how cosign and sigstore-go name a key
        hint = base64.b64encode(bytes.fromhex(signed.public.fingerprint)).decode()
        raw = statement.bundle(signed.signature, {"publicKey": {"hint": hint}})
        return SignedBundle(raw, statement.predicate_type, signed.public)


def predicate_type_of(text: str) -> str:
    """Return the type that a short name or a URI means.

    Raises:
        UsageError: It is neither.
    """
    found = PREDICATE_TYPES.get(text.lower())
    if found is not None:
        return found
    if ":" not in text or any(char.isspace() or not char.isprintable() for char in text):
        raise UsageError(
            f"invalid type of an attestation: {text[:80]!r}",
            hint=f"use one of {', '.join(PREDICATE_TYPES)}, or a URI",
        )
    return text
