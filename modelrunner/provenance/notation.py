"""Signatures of Notation (the Notary Project) in their JSON form, a JWS with its certificates.

Sources: the Notary Project's `signature-specification.md` and `signature-envelope-jws.md`. The
other form, COSE, is not read. Who is trusted is for the certificates to say; whether one of them
was revoked is not asked.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from modelrunner.errors import MalformedManifestError
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_object

MEDIA_TYPE = "application/jose+json"
ALGORITHMS = ("PS256", "PS384", "PS512", "ES256", "ES384", "ES512")

_PREFIX = "io.cncf.notary."
_SCHEME, _EXPIRY, _TIME = f"{_PREFIX}signingScheme", f"{_PREFIX}expiry", f"{_PREFIX}signingTime"
_TIMESTAMP = f"{_PREFIX}timestampSignature"
_X509 = "notary.x509"
_PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
_UNDERSTOOD = (_SCHEME, _EXPIRY)
"""Headers that a signature may say have to be understood."""
_MOST_CERTIFICATES = 16
_SHORT = 0x80
_GRANTED = bytes.fromhex("3003020100")
"""The status of a timestamp's answer, in DER: granted."""


@dataclass(frozen=True, slots=True)
class NotationSignature:
    """A signature, as it says itself.

    Attributes:
        digest: The manifest that it is about, `sha256:HEX`.
        algorithm: How it was made, as JWS has it.
        signed: The bytes that were signed.
        signature: The signature, as JWS has it.
        chain: Certificates in DER, the signer's first.
        timestamps: Answers of timestamp authorities over the signature, in DER.
        expires: When it stops to count; None for never.
    """

    digest: str
    algorithm: str
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    timestamps: tuple[bytes, ...] = field(repr=False)
    expires: datetime | None


def read_notation(content: bytes) -> NotationSignature:
    """Return the signature in an envelope.

    Raises:
        MalformedManifestError: It is malformed, or needs something that is not understood.
    """
    try:
        value = parse_object(content)
        protected, payload = value["protected"], value["payload"]
        header, said = parse_object(_url(protected)), parse_object(_url(payload))
        _require_scheme(header)
        target, unprotected = said["targetArtifact"], value["header"]
        chain = [_plain(each) for each in unprotected["x5c"][:_MOST_CERTIFICATES]]
        stamp = unprotected.get(_TIMESTAMP)
        digest, algorithm = target["digest"], header["alg"]
        found = NotationSignature(
            digest if isinstance(digest, str) else "",
            algorithm if algorithm in ALGORITHMS else "",
            f"{protected}.{payload}".encode("ascii"),
            _url(value["signature"]),
            tuple(chain),
            () if stamp is None else (_answer(_plain(stamp)),),
            _expiry(header),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise MalformedManifestError("a Notation signature is malformed") from exc
    _check(header, found)
    return found


def _require_scheme(header: Mapping[str, Any]) -> None:
    scheme = header.get(_SCHEME)
    if scheme != _X509:
        # the other one has other headers
        raise _unread(f"by the scheme {sanitize_line(str(scheme), 60)}")


def _check(header: Mapping[str, Any], found: NotationSignature) -> None:
    if not found.digest or not found.chain or header.get("cty") != _PAYLOAD:
        raise MalformedManifestError("a Notation signature does not name the content that it signs")
    if not found.algorithm:
        raise _unread("with an unknown algorithm")
    critical = header.get("crit")
    critical = critical if isinstance(critical, list) else []
    unknown = next((each for each in critical if each not in _UNDERSTOOD), None)
    if unknown is not None:
        raise _unread(f"with the critical header {sanitize_line(str(unknown), 80)}")
    # what a reader of another kind may pass over proves nothing
    required = (_SCHEME,) if found.expires is None else _UNDERSTOOD
    if not set(required) <= set(map(str, critical)):
        raise MalformedManifestError("a Notation signature has headers that are not critical")


def _expiry(header: Mapping[str, Any]) -> datetime | None:
    signed, expires = _moment(header[_TIME]), header.get(_EXPIRY)
    if expires is None:
        return None
    found = _moment(expires)
    if found <= signed:
        raise ValueError("expires before it was made")
    return found


def _moment(text: object) -> datetime:
    if not isinstance(text, str):
        raise ValueError("no time")  # noqa: TRY004 - callers catch one type
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _unread(what: str) -> MalformedManifestError:
    return MalformedManifestError(f"present, not verified: a Notation signature {what}")


def _answer(token: bytes) -> bytes:
    """A timestamp as its authority answers it: a JWS has the token alone."""
    return _sequence(_GRANTED + token)


def _sequence(content: bytes) -> bytes:
    size = len(content)
    if size < _SHORT:
        return bytes((0x30, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((0x30, _SHORT | len(length))) + length + content


def _url(text: object) -> bytes:
    if not isinstance(text, str) or not text.isascii():
        raise ValueError("no text")
    try:
        raw = text.replace("-", "+").replace("_", "/")
        return base64.b64decode(raw + "=" * (-len(raw) % 4), validate=True)
    except binascii.Error as exc:
        raise ValueError("not base64") from exc


def _plain(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("no text")  # noqa: TRY004 - callers catch one type
    return base64.b64decode(text, validate=True)
