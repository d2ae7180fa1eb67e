"""Signatures of the Notary Project, made by its own package, are verified by their certificates."""

import base64
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from modelrunner.provenance.certificates import Authority, UntrustedCertificateError
from modelrunner.provenance.notation import read_notation
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.authority import Certified
from tests.support.registry import Registry
from tests.support.signing import Signer, signature_artifact
from tests.support.sigstore import needs_sigstore, timestamp_authority

pytestmark = pytest.mark.real

SIGNATURE = "application/vnd.cncf.notary.signature"
JWS, COSE = "application/jose+json", "application/cose"
PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


def certified(
    name: str, key: Any, by: Certified | None = None, *, begin: datetime, end: datetime
) -> Certified:
    """A certificate as the Notary Project asks for it."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "WA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    is_root = by is None
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
            "crl_sign",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, **usage),
            critical=True,
        )
    )
    if by is not None:
        extended = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        builder = builder.add_extension(extended, critical=False)
    signing = key if by is None else by.signer.key
    return Certified(Signer(key), builder.sign(signing, hashes.SHA256()))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program over the package that `notation` is made of."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        pytest.skip("go is not installed")
    folder = tmp_path_factory.mktemp("go")
    shutil.copy(Path(__file__).parents[1] / "support" / "notation_sign.go", folder / "main.go")
    for arguments in (
        ("mod", "init", "sign"),
        ("get", "github.com/notaryproject/notation-core-go@v1.3.0"),
        ("mod", "tidy"),
        ("build", "-o", "sign", "."),
    ):
        done = subprocess.run(
            [go, *arguments], cwd=folder, check=False, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"the Notary Project's Go package is not to be had: {done.stderr[-200:]}")
    return folder / "sign"


def at(seconds: object) -> int:
    """A moment so many seconds from now."""
    assert isinstance(seconds, int)
    return int(NOW.timestamp()) + seconds


class Notary:
    """Signs a model; each choice of a test is a parameter."""

    def __init__(self, program: Path, folder: Path, subject: Artifact) -> None:
        self.program, self.folder, self.subject = program, folder, subject
        self.root = certified(
            "root", ec.generate_private_key(ec.SECP256R1()), begin=NOW - 9 * DAY, end=NOW + 9 * DAY
        )
        self.ca = self.root.write(folder / "ca.pem")
        self.leaf = self.made(ec.generate_private_key(ec.SECP256R1()))

    def made(
        self, key: Any, *, begin: datetime = NOW - DAY, end: datetime = NOW + DAY
    ) -> Certified:
        return certified("models", key, self.root, begin=begin, end=end)

    def sign(self, leaf: Certified | None = None, **asked: object) -> bytes:
        leaf = leaf or self.leaf
        (self.folder / "leaf.key").write_bytes(leaf.key_pem)
        (self.folder / "chain.pem").write_bytes(leaf.pem + self.root.pem)
        target = {
            "mediaType": self.subject.media_type,
            "digest": self.subject.digest,
            "size": len(self.subject.manifest),
        }
        request = {
            "Key": str(self.folder / "leaf.key"),
            "Chain": str(self.folder / "chain.pem"),
            "Type": JWS,
            "ContentType": PAYLOAD,
            "Scheme": "notary.x509",
            "Payload": {"targetArtifact": target},
            **asked,
            "Signed": at(asked.get("Signed", 0)),
            "Expiry": at(asked["Expiry"]) if "Expiry" in asked else 0,
        }
        done = subprocess.run(
            [self.program], check=False, input=json.dumps(request).encode(), capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def notary(program: Path, tmp_path: Path, tiny: Artifact) -> Notary:
    return Notary(program, tmp_path, tiny)


@pytest.fixture
def name(registry: Registry, tiny: Artifact) -> str:
    registry.add(tiny, "team/m", ["1"])
    return registry.reference("team/m:1")


def refer(registry: Registry, tiny: Artifact, envelope: bytes, kind: str = JWS) -> None:
    made = signature_artifact(envelope, SIGNATURE, tiny, layer=kind)
    registry.add(made, "team/m", [tiny.digest.replace(":", "-")])


def problem(cli: CommandLine, name: str, *words: object) -> str | None:
    """Why the only signature of a model does not count; None where it does."""
    found = cli("inspect", "--remote", "--security", name, *map(str, words))
    assert found.returncode == 0, found.stderr
    (signature,) = json.loads(found.stdout)["signatures"]
    assert (signature["problem"] is None) == signature["verified"]
    said: str | None = signature["problem"]
    return said


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "RSA 2048", "RSA 3072"])
def test_a_signature_by_a_certificate_of_the_authority_counts(
    cli: CommandLine, registry: Registry, name: str, tiny: Artifact, notary: Notary, kind: str
) -> None:
    curves: dict[str, ec.EllipticCurve] = {
        "P-256": ec.SECP256R1(),
        "P-384": ec.SECP384R1(),
        "P-521": ec.SECP521R1(),
    }
    key = (
        ec.generate_private_key(curves[kind])
        if kind in curves
        else rsa.generate_private_key(public_exponent=65537, key_size=int(kind[4:]))
    )
    refer(registry, tiny, notary.sign(notary.made(key)))

    found = cli("trust", "add", "*", "--ca", str(notary.ca), "--identity", "models")
    assert found.returncode == 0, found.stderr
    pulled = cli("pull", name)

    assert pulled.returncode == 0, pulled.stderr
    tested = cli("trust", "test", name, "--offline")
    assert "signature (notation): valid, certificate of models\n" in tested.stdout


def test_without_an_authority_it_is_named(
    cli: CommandLine, registry: Registry, name: str, tiny: Artifact, notary: Notary, tmp_path: Path
) -> None:
    refer(registry, tiny, notary.sign())

    said = problem(cli, name, "--key", notary.leaf.signer.publish(tmp_path / "k.pub"))

    assert (
        said == "present, not verified: a Notation signature, and no certificate authority (`ca`)"
    )


def test_others_do_not_count(
    cli: CommandLine,
    registry: Registry,
    name: str,
    tiny: Artifact,
    notary: Notary,
    tmp_path: Path,
) -> None:
    refer(registry, tiny, notary.sign())
    other = certified(
        "root", ec.generate_private_key(ec.SECP256R1()), begin=NOW - DAY, end=NOW + DAY
    )

    assert problem(cli, name, "--ca", other.write(tmp_path / "other.pem")) == (
        "signed with a certificate: its certificate is not of a configured authority, or not for"
        " signing"
    )
    assert problem(cli, name, "--ca", notary.ca, "--identity", "others") == (
        "signed with a certificate of models"
    )
    assert problem(cli, name, "--ca", notary.ca) is None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"Signed": -7200, "Expiry": -3600}, "expired at"),
        ({"Expiry": 360_000}, None),
        (
            {"Scheme": "notary.x509.signingAuthority"},
            "a Notation signature by the scheme notary.x509.signingAuthority",
        ),
        (
            {"Critical": "io.cncf.notary.verificationPlugin"},
            "a Notation signature with the critical header io.cncf.notary.verificationPlugin",
        ),
        (
            {"ContentType": "application/json"},
            "a Notation signature does not name the content that it signs",
        ),
        (
            {"Payload": {"targetArtifact": {"digest": "sha256:" + "0" * 64, "size": 1}}},
            "signed for another model",
        ),
        ({"Payload": {"other": 1}}, "a Notation signature is malformed"),
    ],
)
def test_what_a_signature_says_of_itself_is_heeded(
    cli: CommandLine,
    registry: Registry,
    name: str,
    tiny: Artifact,
    notary: Notary,
    asked: dict[str, object],
    said: str | None,
) -> None:
    refer(registry, tiny, notary.sign(**asked))

    found = problem(cli, name, "--ca", notary.ca)

    assert found is said if said is None else said in (found or "")


def test_cose_is_named_and_not_read(
    cli: CommandLine, registry: Registry, name: str, tiny: Artifact, notary: Notary
) -> None:
    refer(registry, tiny, notary.sign(Type=COSE), COSE)

    assert problem(cli, name, "--ca", notary.ca) == (
        "present, not verified: a Notation signature (COSE)"
    )


def altered(envelope: bytes, **changes: object) -> bytes:
    """An envelope with other values in its protected header."""
    value = json.loads(envelope)
    raw = value["protected"] + "=" * (-len(value["protected"]) % 4)
    header = {**json.loads(base64.urlsafe_b64decode(raw)), **changes}
    header = {key: each for key, each in header.items() if each is not None}
    text = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return json.dumps({**value, "protected": text}).encode()


def test_what_was_altered_does_not_count(
    cli: CommandLine, registry: Registry, name: str, tiny: Artifact, notary: Notary
) -> None:
    envelope = notary.sign(Signed=-7200, Expiry=-3600)
    for changed, said in (
        (
            altered(envelope, **{"io.cncf.notary.expiry": "2099-01-01T00:00:00Z"}),
            "which is not the one",
        ),
        (altered(envelope, alg="none"), "with an unknown algorithm"),
        (altered(envelope, alg="HS256"), "with an unknown algorithm"),
        (altered(envelope, alg="ES384"), "which is not the one that signed"),
        (altered(envelope, alg="PS256"), "which is not the one that signed"),
        (altered(envelope, crit=["io.cncf.notary.expiry"]), "has headers that are not critical"),
        (altered(envelope, crit=None), "has headers that are not critical"),
        (b"{}", "is malformed"),
        (b"[" * 1000, "is malformed"),
        (json.dumps({**json.loads(envelope), "header": {"x5c": []}}).encode(), "does not name"),
        (json.dumps({**json.loads(envelope), "header": {"x5c": ["AA=="]}}).encode(), "malformed"),
    ):
        refer(registry, tiny, changed)
        found = cli("inspect", "--remote", "--security", name, "--ca", str(notary.ca))
        signatures = json.loads(found.stdout)["signatures"]
        assert not any(each["verified"] for each in signatures)
        assert any(said in each["problem"] for each in signatures), (said, signatures)


@needs_sigstore
def test_a_certificate_that_is_over_counts_by_a_timestamp(notary: Notary, tmp_path: Path) -> None:
    with timestamp_authority(tmp_path / "clock") as (url, root):
        clock = root.write(tmp_path / "clock.pem")
        timed = read_notation(notary.sign(Clock=url, ClockRoot=str(clock)))
    bare = read_notation(notary.sign())
    authority, later = Authority.load([notary.ca], [clock]), NOW + 8 * DAY

    signer = authority.signer(timed.chain, timed.signature, timed.timestamps, now=later)

    assert signer.names == ("models",)
    with pytest.raises(UntrustedCertificateError, match="no timestamp says when it was"):
        authority.signer(bare.chain, bare.signature, bare.timestamps, now=later)
    # a timestamp of another signature says nothing of this one
    with pytest.raises(UntrustedCertificateError, match="no timestamp says when it was"):
        authority.signer(bare.chain, bare.signature, timed.timestamps, now=later)
