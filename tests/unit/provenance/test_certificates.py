"""Certificates of one's own authority: chains that count, and why the others do not."""

from base64 import encodebytes
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from modelrunner.errors import ConfigError, IntegrityError
from modelrunner.provenance.certificates import (
    Authority,
    UntrustedCertificateError,
    chain_in_pem,
    named_in,
)
from tests.support.authority import DAY, Certified, certified, timestamp

SIGNATURE = b"a signature"
AUTHORITY = "its certificate is not of a configured authority, or not for signing"


@pytest.fixture(scope="module")
def root() -> Certified:
    return certified("root", authority=True)


@pytest.fixture(scope="module")
def middle(root: Certified) -> Certified:
    return certified("middle", root, authority=True)


def authority(root: Certified, *timestamps: Certified) -> Authority:
    return Authority((root.certificate,), tuple(each.certificate for each in timestamps))


def test_a_chain_to_the_root_says_who_has_signed(root: Certified, middle: Certified) -> None:
    leaf = certified("leaf", middle, mail="models@example.com")

    found = authority(root).signer([leaf.der, middle.der], SIGNATURE)

    assert found.names == ("models@example.com",)
    assert found.key.verifies(leaf.signer.sign(b"x"), b"x")


def test_without_other_names_the_common_name_counts(root: Certified) -> None:
    found = authority(root).signer([certified("release", root).der], SIGNATURE)

    assert found.names == ("release",)


def test_a_certificate_of_an_unknown_version_does_not_count(root: Certified) -> None:
    version = bytes.fromhex("a003020102")
    odd = root.der.replace(version, version[:-1] + b"\x05", 1)
    pem = b"-----BEGIN CERTIFICATE-----\n" + encodebytes(odd) + b"-----END CERTIFICATE-----\n"

    with pytest.raises(UntrustedCertificateError, match="malformed"):
        authority(root).signer([odd], SIGNATURE)
    with pytest.raises(ValueError, match="version"):
        chain_in_pem(pem)


@pytest.mark.parametrize("usage", [None, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
def test_a_certificate_for_any_use_signs(usage: object, root: Certified) -> None:
    leaf = certified("leaf", root, usage=usage)  # type: ignore[arg-type]

    assert authority(root).signer([leaf.der], SIGNATURE).names == ("leaf",)


def test_what_does_not_lead_to_the_root_does_not_count(root: Certified, middle: Certified) -> None:
    other = certified("root", authority=True)
    not_authority = certified("leaf", root)
    cases = {
        "another root of the same name": [certified("leaf", other).der],
        "its own": [certified("leaf").der],
        "without the intermediate": [certified("leaf", middle).der],
        "by a certificate that may not": [
            certified("leaf", not_authority).der,
            not_authority.der,
        ],
        "the authority itself": [middle.der],
        "for servers": [certified("leaf", root, usage=ExtendedKeyUsageOID.SERVER_AUTH).der],
    }
    for case, chain in cases.items():
        with pytest.raises(UntrustedCertificateError) as caught:
            authority(root).signer(chain, SIGNATURE)
        assert str(caught.value) == AUTHORITY, case


@pytest.mark.parametrize("chain", [[], [b"garbage"]])
def test_what_is_no_certificate_does_not_count(chain: list[bytes], root: Certified) -> None:
    with pytest.raises(UntrustedCertificateError, match="its certificate is malformed"):
        authority(root).signer(chain, SIGNATURE)


def test_an_expired_certificate_counts_at_the_time_of_its_timestamp(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    root = certified("root", authority=True, begin=now - 30 * DAY, end=now + 30 * DAY)
    leaf = certified("leaf", root, end=now + DAY)
    clock = certified("clock", root, usage=ExtendedKeyUsageOID.TIME_STAMPING, critical_usage=True)
    stamp = timestamp(clock, SIGNATURE, tmp_path / "tsa")
    later = now + 20 * DAY

    found = authority(root, root).signer([leaf.der], SIGNATURE, [stamp], now=later)

    assert found.names == ("leaf",)
    for timestamps, believed, why in (
        ([], root, "now, and no timestamp says when it was"),
        ([stamp], certified("other", authority=True), "now, and no timestamp says when it was"),
        ([b"garbage"], root, "now, and no timestamp says when it was"),
    ):
        with pytest.raises(UntrustedCertificateError) as caught:
            authority(root, believed).signer([leaf.der], SIGNATURE, timestamps, now=later)
        assert str(caught.value) == f"its certificate is not valid {why}"
    with pytest.raises(UntrustedCertificateError, match="no timestamp says"):
        # a timestamp of another signature
        authority(root, root).signer([leaf.der], b"another", [stamp], now=later)
    young = certified("leaf", root, begin=now + 10 * DAY, end=now + 25 * DAY)
    with pytest.raises(UntrustedCertificateError, match="not valid when it was signed"):
        authority(root, root).signer([young.der], SIGNATURE, [stamp], now=later)


def test_authorities_are_read_from_files(
    root: Certified, middle: Certified, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(root.pem + middle.pem)

    found = Authority.load([file])

    assert found.roots == (root.certificate, middle.certificate)
    assert chain_in_pem(file.read_bytes()) == [root.der, middle.der]
    file.write_bytes(root.key_pem)
    with pytest.raises(ConfigError, match="has no certificate in PEM format"):
        Authority.load([file])
    with pytest.raises(ConfigError, match="cannot read the certificate"):
        Authority.load([tmp_path / "missing.pem"])


def _with_names(root: Certified, names: bytes) -> bytes:
    """A certificate with bytes of our own as its alternative names, and another extension."""
    begin, end = root.certificate.not_valid_before_utc, root.certificate.not_valid_after_utc
    other = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), b"\x05\x00")
    said = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), names)
    made = (
        x509.CertificateBuilder()
        .subject_name(root.certificate.subject)
        .issuer_name(root.certificate.subject)
        .public_key(root.signer.key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(said, critical=False)
        .add_extension(other, critical=False)
        .sign(root.signer.key, SHA256())
    )
    return made.public_bytes(Encoding.DER)


_MAIL = bytes.fromhex("30058103614062")


@pytest.mark.parametrize(
    ("names", "before", "after"),
    [
        # the same extension twice, an address of X.400, a key of an unknown kind, a curve
        (_MAIL, "0603551d63", "0603551d11"),
        (bytes.fromhex("3004a3023000"), "", ""),
        (_MAIL, "06072a8648ce3d0201", "06072a8648ce3d0277"),
        (_MAIL, "06082a8648ce3d030107", "06082a8648ce3d030177"),
    ],
)
def test_a_certificate_that_is_not_understood_is_not_of_anybody(
    root: Certified, names: bytes, before: str, after: str
) -> None:
    der = _with_names(root, names).replace(bytes.fromhex(before), bytes.fromhex(after))

    with pytest.raises(IntegrityError, match="the new certificate is malformed"):
        named_in(der)
    with pytest.raises(UntrustedCertificateError):
        authority(root).signer([der], SIGNATURE)
