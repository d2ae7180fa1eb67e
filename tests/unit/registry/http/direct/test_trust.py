"""Which chains of certificates are trusted, seen in handshakes in memory."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from modelrunner.registry.http.direct.trust import context_of

HOST = "127.0.0.1"


class Made:
    """A key and the certificate for it, with no more extensions than it needs."""

    def __init__(self, name, by=None, *, authority=True):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now, day = datetime.now(UTC), timedelta(days=1)
        issuer = by or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
        )
        if authority:
            # neither critical, nor with the identifier of a key, nor with the usage of one
            builder = builder.add_extension(x509.BasicConstraints(True, None), critical=False)
        else:
            host = x509.IPAddress(ipaddress.ip_address(HOST))
            builder = builder.add_extension(x509.SubjectAlternativeName([host]), critical=False)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())

    @property
    def pem(self):
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self):
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def chain():
    root = Made("a company")
    between = Made("its department", root)
    return root, between, Made("a server", between, authority=False)


def shake_hands(bundle, server, shown, folder):
    """A handshake with a server that shows some certificates."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = folder / "server.pem"
    file.write_bytes(server.key_pem + b"".join(each.pem for each in shown))
    theirs.load_cert_chain(file)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context_of(str(bundle)).wrap_bio(back, there, server_hostname=HOST)
    other = theirs.wrap_bio(there, back, server_side=True)
    ended = set()
    while len(ended) < 2:
        for each in (ours, other):
            try:
                each.do_handshake()
                ended.add(each)
            except ssl.SSLWantReadError:
                pass


def test_authority_that_says_little_of_itself_is_trusted(chain, tmp_path):
    root, between, server = chain
    bundle = tmp_path / "company.pem"
    bundle.write_bytes(root.pem)
    shake_hands(bundle, server, [server, between], tmp_path)


def test_authority_below_another_one_is_enough(chain, tmp_path):
    _, between, server = chain
    bundle = tmp_path / "department.pem"
    bundle.write_bytes(between.pem)
    shake_hands(bundle, server, [server], tmp_path)


def test_authority_that_nobody_has_named_is_not(chain, tmp_path):
    _, between, server = chain
    bundle = tmp_path / "other.pem"
    bundle.write_bytes(Made("a company").pem)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(bundle, server, [server, between], tmp_path)
