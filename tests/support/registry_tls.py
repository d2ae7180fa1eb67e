"""A certificate for loopback, made by the `openssl` command and trusted by nobody yet."""

import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -batch"
    " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    " -addext keyUsage=critical,digitalSignature,keyCertSign"
)


def can_make_certificates() -> bool:
    """Whether the `openssl` command is here: without it, skip."""
    return shutil.which("openssl") is not None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate for loopback and its key, in a directory of their own."""

    directory: Path

    @classmethod
    def make(cls) -> "Certificate":
        certificate = cls(Path(tempfile.mkdtemp(prefix="registry-tls-")))
        outputs = ["-keyout", str(certificate.key), "-out", str(certificate.file)]
        subprocess.run([*_OPENSSL.split(), *outputs], check=True, capture_output=True)
        return certificate

    @property
    def file(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context

    def remove(self) -> None:
        shutil.rmtree(self.directory)
