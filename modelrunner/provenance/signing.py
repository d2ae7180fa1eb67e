"""Signatures of ours: Sigstore bundles over in-toto statements, as cosign 3 makes them with a key.

Such a bundle is in no transparency log, so cosign verifies it with `--private-infrastructure`, or
`--insecure-ignore-tlog`. Sources: sigstore `protobuf-specs` (bundle v0.3), the in-toto attestation
specification, cosign `cmd/cosign/cli/sign/sign.go` and `pkg/oci/remote/write.go`.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    """

    raw: bytes
    predicate_type: str
    public: PublicKey

    @property
    def annotations(self) -> Mapping[str, str]:
        """What its manifest says of it, as cosign has it."""
        return {CONTENT_ANNOTATION: "dsse-envelope", PREDICATE_ANNOTATION: self.predicate_type}


def sign_statement(
    digest: Digest,
    key: SigningKey,
    *,
    predicate_type: str = f"{SIGN_PREDICATE}v1",
    predicate: Mapping[str, Any] | None = None,
) -> SignedBundle:
    """Sign a statement about a manifest.

    Args:
        digest: The manifest.
        key: Signs.
        predicate_type: What the statement says, as a type; without one it only signs.
        predicate: What it says.

    Raises:
        SigningKeyError: The key does not sign.
    """
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.hex}}],
        "predicateType": predicate_type,
        "predicate": dict(predicate or {}),
    }
    payload = json.dumps(statement, separators=(",", ":")).encode()
    signed = key.sign(pre_authentication(STATEMENT, payload))
    # of the key's DER, which is how cosign and sigstore-go name a key
    hint = base64.b64encode(bytes.fromhex(signed.public.fingerprint)).decode()
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": hint}},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": STATEMENT,
            "signatures": [{"sig": base64.b64encode(signed.signature).decode()}],
        },
    }
    return SignedBundle(
        json.dumps(document, separators=(",", ":")).encode(), predicate_type, signed.public
    )


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
