"""A certificate authority of the tests' own, with an intermediate, and a timestamp authority."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.signing import Signer

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Certified:
    """A key and the certificate for it."""

    signer: Signer
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return self.signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, path: Path) -> Path:
        path.write_bytes(self.pem)
        return path


def certified(
    name: str,
    by: Certified | None = None,
    *,
    authority: bool = False,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CODE_SIGNING,
    mail: str | None = None,
    begin: datetime | None = None,
    end: datetime | None = None,
    critical_usage: bool = False,
    key_usage: bool = False,
) -> Certified:
    """A certificate, signed by another one or by itself."""
    signer = Signer(ec.generate_private_key(ec.SECP256R1()))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = subject if by is None else by.certificate.subject
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(signer.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin or now - DAY)
        .not_valid_after(end or now + DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if usage is not None and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=critical_usage)
    if key_usage:
        names_of = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        others = dict.fromkeys((*names_of, "encipher_only", "decipher_only", "crl_sign"), False)
        allowed = x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, **others)
        builder = builder.add_extension(allowed, critical=True)
    if mail is not None:
        names = x509.SubjectAlternativeName([x509.RFC822Name(mail)])
        builder = builder.add_extension(names, critical=False)
    key = signer.key if by is None else by.signer.key
    return Certified(signer, builder.sign(key, hashes.SHA256()))


def timestamp(authority: Certified, content: bytes, folder: Path) -> bytes:
    """What a timestamp authority answers for some bytes, made by `openssl ts`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "content").write_bytes(content)
    (folder / "tsa.key").write_bytes(authority.key_pem)
    authority.write(folder / "tsa.pem")
    (folder / "tsa.cnf").write_text(
        "[tsa]\ndefault_tsa = own\n[own]\n"
        f"serial = {folder}/serial\nsigner_digest = sha256\ndefault_policy = 1.2.3.4\n"
        "digests = sha256\nordering = yes\ntsa_name = yes\ness_cert_id_chain = no\n"
    )
    query, reply = folder / "query", folder / "reply"
    _openssl("-query", "-data", folder / "content", "-sha256", "-cert", "-out", query)
    config = ("-config", folder / "tsa.cnf", "-queryfile", query, "-out", reply)
    keys = ("-signer", folder / "tsa.pem", "-inkey", folder / "tsa.key")
    _openssl("-reply", *config, *keys)
    return reply.read_bytes()


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", "ts", *map(str, words)], check=True, capture_output=True)
