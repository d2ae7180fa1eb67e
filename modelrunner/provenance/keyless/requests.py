"""What is asked of the services that sign without a key, and what they answer.

Sources: Fulcio's `fulcio.proto` (`POST /api/v2/signingCert`), RFC 3161, Rekor's `openapi.yaml` (v1,
`POST /api/v1/log/entries`) and rekor-tiles' `CLIENTS.md` (v2, `POST /api/v2/log/entries`).
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from modelrunner.provenance.certificates import chain_in_pem
from modelrunner.wire import parse_object

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from rfc3161_client import TimeStampRequest

CERTIFICATE_PATH = "/api/v2/signingCert"
_MOST_CERTIFICATES = 10
_GRANTED = (0, 1)
_ENTRY = (
    "logIndex",
    "logId",
    "kindVersion",
    "integratedTime",
    "inclusionPromise",
    "inclusionProof",
    "canonicalizedBody",
)
"""The fields of an entry in a bundle (source: `sigstore_rekor.proto`)."""


class AnswerError(Exception):
    """An answer is not what was asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class EphemeralKey:
    """A key that signs once: its certificate says whose it was."""

    _key: "EllipticCurvePrivateKey" = field(repr=False)

    @classmethod
    def make(cls) -> "EphemeralKey":
        """Return a new key, on the curve that all who verify know."""
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

        return cls(generate_private_key(SECP256R1()))

    def sign(self, message: bytes) -> bytes:
        """Sign a message with ECDSA and SHA-256."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._key.sign(message, ECDSA(SHA256()))

    def certificate_request(self) -> bytes:
        """Return the request for its certificate: who it is for is in the token beside it."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding
        from cryptography.x509 import CertificateSigningRequestBuilder, Name

        request = CertificateSigningRequestBuilder().subject_name(Name([]))
        pem = request.sign(self._key, SHA256()).public_bytes(Encoding.PEM)
        return json.dumps({"certificateSigningRequest": encoded(pem)}).encode()


def certificates_in(answer: bytes) -> tuple[bytes, ...]:
    """Return the certificates of an authority's answer in DER, the signer's first.

    Raises:
        AnswerError: It has none.
    """
    value = _object(answer)
    kinds = ("signedCertificateEmbeddedSct", "signedCertificateDetachedSct")
    held = next((value[kind] for kind in kinds if kind in value), None)
    chain = held.get("chain") if isinstance(held, dict) else None
    listed = chain.get("certificates") if isinstance(chain, dict) else None
    try:
        found = [
            der
            for pem in (listed if isinstance(listed, list) else [])[:_MOST_CERTIFICATES]
            for der in chain_in_pem(str(pem).encode())
        ]
    except ValueError as exc:
        raise AnswerError("a malformed certificate") from exc
    if not found:
        raise AnswerError("no certificate")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class TimestampQuery:
    """What a timestamp authority is asked: the time at which a signature was there."""

    _request: "TimeStampRequest"
    _signature: bytes = field(repr=False)

    @classmethod
    def over(cls, signature: bytes) -> "TimestampQuery":
        """Return the query for a signature."""
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

        builder = TimestampRequestBuilder().hash_algorithm(HashAlgorithm.SHA256)
        return cls(builder.data(signature).nonce(nonce=True).build(), signature)

    @property
    def raw(self) -> bytes:
        """It as it is sent."""
        return self._request.as_bytes()

    def answered(self, answer: bytes) -> bytes:
        """Return an answer that is one to this query.

        Raises:
            AnswerError: It is something else.
        """
        from rfc3161_client import decode_timestamp_response

        try:
            found = decode_timestamp_response(answer)
            if found.status not in _GRANTED:
                raise AnswerError("no timestamp: the request was not granted")
            said = found.tst_info
            imprint, nonce = said.message_imprint.message, said.nonce
        except ValueError as exc:
            raise AnswerError("a malformed timestamp") from exc
        if imprint != sha256(self._signature).digest() or nonce != self._request.nonce:
            raise AnswerError("a timestamp of something else")
        return answer


def log_path(version: int) -> str:
    """Return where entries of a log are made."""
    return f"/api/v{version}/log/entries"


def log_request(
    version: int, envelope: Mapping[str, Any], signed: bytes, certificate: bytes
) -> bytes:
    """Return what enters a signed envelope in a log.

    Args:
        version: Of the log's interface.
        envelope: The envelope.
        signed: The bytes that its signature is over.
        certificate: The signer's, in DER.
    """
    if version == 1:
        pem = _pem(certificate)
        content = {"envelope": json.dumps(envelope), "verifiers": [encoded(pem)]}
        spec = {"proposedContent": content}
        return json.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}).encode()
    verifier = {
        "x509Certificate": {"rawBytes": encoded(certificate)},
        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
    }
    (signature,) = envelope["signatures"]
    entry = {
        "digest": encoded(sha256(signed).digest()),
        "signature": {"content": signature["sig"], "verifier": verifier},
    }
    return json.dumps({"hashedRekordRequestV002": entry}).encode()


def log_entry_in(version: int, answer: bytes) -> Mapping[str, Any]:
    """Return the entry of a log's answer as a bundle has it.

    Raises:
        AnswerError: It has none.
    """
    value = _object(answer)
    try:
        entry = _entry_of_v1(value) if version == 1 else value
        found = {key: entry[key] for key in _ENTRY if entry.get(key) is not None}
        if not found["inclusionProof"]["checkpoint"]["envelope"]:
            raise AnswerError("an entry without a checkpoint")
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, binascii.Error) as exc:
        raise AnswerError("a malformed entry") from exc
    return found


def _entry_of_v1(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """An entry as the older interface answers it: its ID, and then numbers and hashes in hex."""
    (entry,) = value.values()
    body = parse_object(base64.b64decode(entry["body"], validate=True))
    verified = entry["verification"]
    proof = verified["inclusionProof"]
    return {
        "logIndex": str(entry["logIndex"]),
        "logId": {"keyId": _hexed(entry["logID"])},
        "kindVersion": {"kind": str(body["kind"]), "version": str(body["apiVersion"])},
        "integratedTime": str(entry["integratedTime"]),
        "inclusionPromise": {"signedEntryTimestamp": str(verified["signedEntryTimestamp"])},
        "inclusionProof": {
            "logIndex": str(proof["logIndex"]),
            "rootHash": _hexed(proof["rootHash"]),
            "treeSize": str(proof["treeSize"]),
            "hashes": [_hexed(each) for each in proof["hashes"]],
            "checkpoint": {"envelope": str(proof["checkpoint"])},
        },
        "canonicalizedBody": entry["body"],
    }


def _object(answer: bytes) -> Mapping[str, Any]:
    try:
        return parse_object(answer)
    except ValueError as exc:
        raise AnswerError("no JSON object") from exc


def _pem(der: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_der_x509_certificate

    return load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def _hexed(text: str) -> str:
    return encoded(bytes.fromhex(text))


def encoded(raw: bytes) -> str:
    """Return bytes as JSON has them here, in base64."""
    return base64.b64encode(raw).decode()
