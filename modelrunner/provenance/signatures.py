"""Signatures and attestations as registries keep them, read into one form.

Three forms are in use, all of cosign's making:

- *simple signing*: a layer `application/vnd.dev.cosign.simplesigning.v1+json` that names the
  digest, its signature in the annotation `dev.cosignproject.cosign/signature`; under the tag
  `sha256-HEX.sig`.
- *DSSE*: an in-toto statement in an envelope, `application/vnd.dsse.envelope.v1+json`; under the
  tag `sha256-HEX.att`.
- *bundle*: `application/vnd.dev.sigstore.bundle...+json`, a referrer of the manifest, with a DSSE
  envelope or a signature of the manifest itself.

Sources: cosign `specs/SIGNATURE_SPEC.md`, the in-toto attestation and DSSE specifications, sigstore
`protobuf-specs`.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from modelrunner.errors import MalformedManifestError
from modelrunner.wire import parse_json

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
BUNDLE_PREFIX = "application/vnd.dev.sigstore.bundle"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
CERTIFICATE_ANNOTATION = "dev.sigstore.cosign/certificate"

STATEMENT = "application/vnd.in-toto+json"
_SIMPLE_TYPE = "cosign container image signature"
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/"

Form = Literal["simple signing", "dsse", "bundle"]
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
        certificate: Whether it was made with a short-lived certificate instead of a key.
    """

    form: Form
    kind: Kind
    subjects: tuple[str, ...]
    signed: bytes
    signature: bytes
    predicate_type: str | None = None
    bundle: bytes | None = None
    certificate: bool = False


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
    certificate = CERTIFICATE_ANNOTATION in annotations
    return Evidence(
        "simple signing", "signature", (digest,), content, signature, certificate=certificate
    )


def _envelope(
    value: Mapping[str, Any],
    form: Form,
    *,
    bundle: bytes | None = None,
    certificate: bool = False,
) -> Iterator[Evidence]:
    payload, kind = _decoded(value.get("payload")), value.get("payloadType")
    if kind != STATEMENT:
        raise MalformedManifestError("expected an in-toto statement in the envelope of a signature")
    statement = _object(payload)
    predicate = statement.get("predicateType")
    predicate_type = predicate if isinstance(predicate, str) else None
    signs = predicate_type is not None and predicate_type.startswith(SIGN_PREDICATE)
    signatures = value.get("signatures")
    for entry in signatures if isinstance(signatures, list) else []:
        yield Evidence(
            form,
            "signature" if signs else "attestation",
            tuple(_subjects(statement.get("subject"))),
            pre_authentication(STATEMENT, payload),
            _decoded(entry.get("sig") if isinstance(entry, dict) else None),
            None if signs else predicate_type,
            bundle,
            certificate,
        )


def _bundle(content: bytes, manifest: bytes) -> Iterator[Evidence]:
    value = _object(content)
    material = value.get("verificationMaterial")
    certificate = isinstance(material, dict) and "publicKey" not in material
    envelope, message = value.get("dsseEnvelope"), value.get("messageSignature")
    if isinstance(envelope, dict):
        yield from _envelope(envelope, "bundle", bundle=content, certificate=certificate)
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
            certificate=certificate,
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
