"""Signatures and attestations as registries keep them, read into one form.

These forms are read:

- *simple signing*: a layer `application/vnd.dev.cosign.simplesigning.v1+json` that names the
  digest, its signature in the annotation `dev.cosignproject.cosign/signature`; under the tag
  `sha256-HEX.sig`.
- *DSSE*: an in-toto statement in an envelope, `application/vnd.dsse.envelope.v1+json`; under the
  tag `sha256-HEX.att`.
- *bundle*: `application/vnd.dev.sigstore.bundle...+json`, a referrer of the manifest, with a DSSE
  envelope or a signature of the manifest itself.
- *OMS* (OpenSSF model signing): a bundle whose statement lists a model's files with their digests.
- *Notation*: a JWS with its certificates, `application/jose+json`; see `notation`.

Others are named, see `named_form`. Sources: cosign `specs/SIGNATURE_SPEC.md`, the in-toto
attestation and DSSE specifications, sigstore `protobuf-specs`, the `model-signing` package 1.1.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from modelrunner.errors import MalformedManifestError
from modelrunner.provenance import notation
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_json

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
BUNDLE_PREFIX = "application/vnd.dev.sigstore.bundle"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
CERTIFICATE_ANNOTATION = "dev.sigstore.cosign/certificate"
CHAIN_ANNOTATION = "dev.sigstore.cosign/chain"
TIMESTAMP_ANNOTATION = "dev.sigstore.cosign/rfc3161timestamp"
NOTATION = "application/vnd.cncf.notary.signature"

STATEMENT = "application/vnd.in-toto+json"
_OMS = "https://model_signing/"
_OMS_SIGNATURE = "https://model_signing/signature/v1.0"
_UNREAD = {
    "application/cose": "a Notation signature (COSE)",
    "application/pgp-signature": "a GPG signature",
    "application/pgp-keys": "a GPG signature",
    "application/pkcs7-signature": "a PKCS #7 signature",
}
_HEX = re.compile(r"[0-9a-f]{64}")
_SIMPLE_TYPE = "cosign container image signature"
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/"

Form = Literal["simple signing", "dsse", "bundle", "oms", "notation"]
Kind = Literal["signature", "attestation"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One signature over something that names a manifest.

    Attributes:
        form: How it is kept.
        kind: Whether it only signs, or says something too.
        subjects: The digests that it is about, `sha256:HEX`.
        signed: The bytes that were signed.
        signature: The signature.
        predicate_type: What an attestation says, as a type.
        bundle: The whole bundle as JSON, where it is one.
        certificate: Whether it was made with a certificate instead of a bare key.
        chain: Its certificates in PEM or DER, the signer's first, as far as they come with it.
        timestamps: Responses of timestamp authorities, in DER.
        files: Names and SHA-256 of the files that it is about, where it is about files.
        algorithm: How it was made, as JWS names it, where it is one.
        expires: When it stops to count, where it does.
    """

    form: Form
    kind: Kind
    subjects: tuple[str, ...]
    signed: bytes
    signature: bytes
    predicate_type: str | None = None
    bundle: bytes | None = None
    certificate: bool = False
    chain: tuple[bytes, ...] = ()
    timestamps: tuple[bytes, ...] = ()
    files: tuple[tuple[str, str], ...] | None = None
    algorithm: str | None = None
    expires: datetime | None = None


def named_form(types: Sequence[str]) -> str | None:
    """Return what a signature is whose form is not read, by its types; None for anything else."""
    for text in types:
        kind = text.partition(";")[0].strip().lower()
        if kind in _UNREAD:
            return _UNREAD[kind]
    if NOTATION in types:
        return "a Notation signature"
    for text in types:
        if "signature" in text.lower() and not text.lower().startswith(BUNDLE_PREFIX):
            return f"a signature of type {sanitize_line(text, 100)}"
    return None


def evidence_in(
    media_type: str, annotations: Mapping[str, str], content: bytes, manifest: bytes
) -> Iterator[Evidence]:
    """What a layer of a signature artifact holds; nothing where it is of another kind.

    Args:
        media_type: The layer's.
        annotations: The layer's.
        content: The layer.
        manifest: The manifest that it should be about: some signatures are over its bytes.

    Raises:
        MalformedManifestError: It is not what its media type says.
    """
    if media_type == SIMPLE_SIGNING:
        yield _simple(annotations, content)
    elif media_type == ENVELOPE:
        yield from _envelope(_object(content), "dsse")
    elif media_type == notation.MEDIA_TYPE:
        yield _notation(content)
    elif media_type.startswith(BUNDLE_PREFIX):
        yield from _bundle(content, manifest)


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature is over."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _simple(annotations: Mapping[str, str], content: bytes) -> Evidence:
    value = _object(content)
    critical = value.get("critical")
    critical = critical if isinstance(critical, dict) else {}
    image = critical.get("image")
    digest = image.get("docker-manifest-digest") if isinstance(image, dict) else None
    if not isinstance(digest, str) or critical.get("type") != _SIMPLE_TYPE:
        raise MalformedManifestError("a signature does not name the content that it signs")
    signature = _decoded(annotations.get(SIGNATURE_ANNOTATION))
    pem = (annotations.get(CERTIFICATE_ANNOTATION, ""), annotations.get(CHAIN_ANNOTATION, ""))
    return Evidence(
        "simple signing",
        "signature",
        (digest,),
        content,
        signature,
        certificate=CERTIFICATE_ANNOTATION in annotations,
        chain=tuple(each.encode() for each in pem if each),
        timestamps=_annotated_timestamp(annotations.get(TIMESTAMP_ANNOTATION)),
    )


def _notation(content: bytes) -> Evidence:
    found = notation.read_notation(content)
    return Evidence(
        "notation",
        "signature",
        (found.digest,),
        found.signed,
        found.signature,
        certificate=True,
        chain=found.chain,
        timestamps=found.timestamps,
        algorithm=found.algorithm,
        expires=found.expires,
    )


def _annotated_timestamp(text: str | None) -> tuple[bytes, ...]:
    if not text:
        return ()
    raw = _decoded(_object(text.encode()).get("SignedRFC3161Timestamp"))
    return (raw,) if raw else ()


def _envelope(
    value: Mapping[str, Any],
    form: Form,
    material: "_Material | None" = None,
) -> Iterator[Evidence]:
    payload, kind = _decoded(value.get("payload")), value.get("payloadType")
    if kind != STATEMENT:
        raise MalformedManifestError("expected an in-toto statement in the envelope of a signature")
    statement = _object(payload)
    predicate = statement.get("predicateType")
    predicate_type = predicate if isinstance(predicate, str) else None
    files = None
    if predicate_type is not None and predicate_type.startswith(_OMS):
        files, form = _signed_files(statement, predicate_type), "oms"
    signs = files is not None or (
        predicate_type is not None and predicate_type.startswith(SIGN_PREDICATE)
    )
    material = material or _Material()
    signatures = value.get("signatures")
    for entry in signatures if isinstance(signatures, list) else []:
        yield Evidence(
            form,
            "signature" if signs else "attestation",
            tuple(_subjects(statement.get("subject"))),
            pre_authentication(STATEMENT, payload),
            _decoded(entry.get("sig") if isinstance(entry, dict) else None),
            None if signs else predicate_type,
            material.bundle,
            material.certificate,
            material.chain,
            material.timestamps,
            files,
        )


def _signed_files(statement: Mapping[str, Any], predicate_type: str) -> tuple[tuple[str, str], ...]:
    """The files that an OMS statement signs, after the digest over all of them was compared."""
    predicate = statement.get("predicate")
    predicate = predicate if isinstance(predicate, dict) else {}
    serialization = predicate.get("serialization")
    method = serialization.get("method") if isinstance(serialization, dict) else None
    if predicate_type != _OMS_SIGNATURE or method != "files":
        raise MalformedManifestError("present, not verified: a model signature of another version")
    found: list[tuple[str, str]] = []
    digest = sha256()
    resources = predicate.get("resources")
    for entry in resources if isinstance(resources, list) else []:
        name, hexed = (
            (entry.get("name"), entry.get("digest")) if isinstance(entry, dict) else ("", "")
        )
        if not isinstance(name, str) or not isinstance(hexed, str) or not _HEX.fullmatch(hexed):
            raise MalformedManifestError("a model signature lists a malformed file")
        if entry.get("algorithm") != "sha256":
            raise MalformedManifestError("present, not verified: a model signature without SHA-256")
        found.append((name, hexed))
        digest.update(bytes.fromhex(hexed))
    if not found or f"sha256:{digest.hexdigest()}" not in _subjects(statement.get("subject")):
        raise MalformedManifestError("a model signature does not fit its list of files")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Material:
    """What a bundle brings to verify it with."""

    bundle: bytes | None = None
    certificate: bool = False
    chain: tuple[bytes, ...] = ()
    timestamps: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, content: bytes, material: object) -> "_Material":
        if not isinstance(material, dict):
            return cls(content)
        held = [material.get("certificate")]
        chained = material.get("x509CertificateChain")
        if isinstance(chained, dict) and isinstance(chained.get("certificates"), list):
            held += chained["certificates"]
        chain = [_decoded(each.get("rawBytes")) for each in held if isinstance(each, dict)]
        stamps = material.get("timestampVerificationData")
        listed = stamps.get("rfc3161Timestamps") if isinstance(stamps, dict) else None
        timestamps = [
            _decoded(each.get("signedTimestamp"))
            for each in (listed if isinstance(listed, list) else [])
            if isinstance(each, dict)
        ]
        return cls(content, "publicKey" not in material, tuple(chain), tuple(timestamps))


def _bundle(content: bytes, manifest: bytes) -> Iterator[Evidence]:
    value = _object(content)
    material = _Material.of(content, value.get("verificationMaterial"))
    envelope, message = value.get("dsseEnvelope"), value.get("messageSignature")
    if isinstance(envelope, dict):
        yield from _envelope(envelope, "bundle", material)
    elif isinstance(message, dict):
        digest = message.get("messageDigest")
        hashed = digest.get("digest") if isinstance(digest, dict) else None
        yield Evidence(
            "bundle",
            "signature",
            (f"sha256:{_decoded(hashed).hex()}",),
            manifest,
            _decoded(message.get("signature")),
            bundle=content,
            certificate=material.certificate,
            chain=material.chain,
            timestamps=material.timestamps,
        )
    else:
        raise MalformedManifestError("a signature bundle has neither an envelope nor a signature")


def _subjects(value: object) -> Iterator[str]:
    for entry in value if isinstance(value, list) else []:
        digests = entry.get("digest") if isinstance(entry, dict) else None
        hexed = digests.get("sha256") if isinstance(digests, dict) else None
        if isinstance(hexed, str):
            yield f"sha256:{hexed}"


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        value = parse_json(raw)
    except ValueError as exc:
        raise MalformedManifestError("a signature is not JSON") from exc
    if not isinstance(value, dict):
        raise MalformedManifestError("a signature is not a JSON object")
    return value


def _decoded(value: object) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError) as exc:
        raise MalformedManifestError("a signature is not base64") from exc
