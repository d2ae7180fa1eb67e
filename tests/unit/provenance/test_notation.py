"""What an envelope of Notation says is read as it stands, or refused."""

import base64
import json
from typing import Any

import pytest

from modelrunner.errors import MalformedManifestError
from modelrunner.provenance.notation import read_notation

DIGEST = "sha256:" + "a" * 64
HEADER = {
    "alg": "ES256",
    "cty": "application/vnd.cncf.notary.payload.v1+json",
    "crit": ["io.cncf.notary.signingScheme"],
    "io.cncf.notary.signingScheme": "notary.x509",
    "io.cncf.notary.signingTime": "2026-01-01T00:00:00Z",
}


def url(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def envelope(header: dict[str, Any] | None = None) -> bytes:
    protected = {
        key: each for key, each in {**HEADER, **(header or {})}.items() if each is not None
    }
    value = {
        "payload": url({"targetArtifact": {"digest": DIGEST, "size": 1}}),
        "protected": url(protected),
        "header": {"x5c": [base64.b64encode(b"certificate").decode()]},
        "signature": url(b"signature"),
    }
    return json.dumps(value).encode()


def stamped_envelope(unprotected: dict[str, Any]) -> bytes:
    return json.dumps(json.loads(envelope()) | {"header": unprotected}).encode()


def test_an_envelope_is_read() -> None:
    raw = envelope()
    value = json.loads(raw)

    found = read_notation(raw)

    assert (found.digest, found.algorithm, found.chain) == (DIGEST, "ES256", (b"certificate",))
    assert found.signed == f"{value['protected']}.{value['payload']}".encode()
    assert (found.signature, found.timestamps, found.expires) == (b"signature", (), None)


def test_a_timestamp_becomes_an_answer() -> None:
    token = b"\x30\x03abc"
    stamped = {
        "x5c": [base64.b64encode(b"certificate").decode()],
        "io.cncf.notary.timestampSignature": base64.b64encode(token).decode(),
    }

    (short,) = read_notation(stamped_envelope(stamped)).timestamps
    stamped["io.cncf.notary.timestampSignature"] = base64.b64encode(token * 100).decode()
    (long,) = read_notation(stamped_envelope(stamped)).timestamps

    assert short == bytes.fromhex("300a3003020100") + token
    assert long == bytes.fromhex("308201f93003020100") + token * 100


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({"io.cncf.notary.signingTime": None}, {}),
        ({"io.cncf.notary.signingTime": 5}, {}),
        ({"io.cncf.notary.expiry": "2025-01-01T00:00:00Z"}, {}),
        ({"io.cncf.notary.expiry": "2027-01-01T00:00:00Z"}, {}),
        ({"crit": None}, {}),
        ({"crit": "io.cncf.notary.signingScheme"}, {}),
        ({"crit": [{"deep": []}]}, {}),
        ({"cty": "text/plain"}, {}),
        ({"alg": ["ES256"]}, {}),
        ({"alg": "RS256"}, {}),
        ({}, {"payload": url([1])}),
        ({}, {"payload": url({"targetArtifact": "x"})}),
        ({}, {"payload": "\u00e9"}),
        ({}, {"payload": 1}),
        ({}, {"protected": "!"}),
        ({}, {"header": None}),
        ({}, {"header": {"x5c": "AAAA"}}),
        ({}, {"header": {"x5c": [1]}}),
        ({}, {"signature": None}),
        ({}, {"signature": "***"}),
    ],
)
def test_what_is_not_as_it_should_be_is_refused(
    header: dict[str, Any], changes: dict[str, Any]
) -> None:
    made = json.loads(envelope(header)) | changes

    with pytest.raises(MalformedManifestError):
        read_notation(json.dumps(made).encode())
