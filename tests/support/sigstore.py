"""A whole Sigstore instance on loopback, of the real programs that `.ci/sigstore` builds.

    with sigstore(tmp_path / "sigstore") as instance:
        cli("sign", name, "--identity-token", instance.token_file("me@example.com"),
            "--trust-config", instance.trust_config)

Fulcio makes certificates for the tokens of an identity provider of the tests' own, TesseraCT logs
them, `timestamp-server` attests times, and Rekor (version 2, on plain files) logs signatures. Of
its first version there is what `rekor` has.
"""

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.authority import Certified, certified
from tests.support.rekor import rekor
from tests.support.signing import Signer

_PLACE = Path(os.environ.get("MODELRUNNER_CI_WHEELS", "/var/cache/modelrunner-ci")) / "sigstore"
_NAMES = ("fulcio", "tesseract", "rekor-server", "timestamp-server")
_MISSING = [
    name for name in _NAMES if not ((_PLACE / name).is_file() or shutil.which(name) is not None)
]
_ALONE = ("unshare", "--map-root-user", "--net", "--")
_CAN_BE_ALONE = (
    shutil.which(_ALONE[0]) is not None
    and not subprocess.run([*_ALONE, "true"], check=False, capture_output=True).returncode
)
_START_S = 60
CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
SERVICES = "application/vnd.dev.sigstore.signingconfig.v0.2+json"

needs_sigstore = pytest.mark.skipif(
    bool(_MISSING) or not _CAN_BE_ALONE,
    reason=f"needs {', '.join(_MISSING)}: `.ci/sigstore` builds them"
    if _MISSING
    else "needs network namespaces",
)


@dataclass(frozen=True)
class IdentityProvider:
    """An OpenID Connect provider: discovery, and the key of its tokens."""

    url: str
    key: rsa.RSAPrivateKey = field(repr=False)

    def token(self, mail: str, **claims: object) -> str:
        """A token for a mail address, valid for ten minutes."""
        now = datetime.now(UTC)
        said: dict[str, Any] = {
            "iss": self.url,
            "sub": "subject",
            "aud": "sigstore",
            "iat": now,
            "exp": now + timedelta(minutes=10),
            "email": mail,
            "email_verified": True,
        }
        return jwt.encode({**said, **claims}, self.key, "RS256", headers={"kid": "1"})


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """The block in which a provider runs."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            answers: dict[str, object] = {
                "/.well-known/openid-configuration": {
                    "issuer": url,
                    "jwks_uri": f"{url}/keys",
                    "authorization_endpoint": f"{url}/auth",
                    "token_endpoint": f"{url}/token",
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                },
                "/keys": {"keys": [{**public, "kid": "1", "use": "sig", "alg": "RS256"}]},
            }
            found = answers.get(self.path)
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with _serving(Handler) as server:
        yield IdentityProvider(f"http://127.0.0.1:{server.server_port}", key)


@dataclass(frozen=True)
class Instance:
    """A running instance.

    Attributes:
        folder: Where its files are.
        provider: Whose tokens it believes.
        trust_config: The services and the root, as a client's configuration.
        trusted_root: The root alone.
    """

    folder: Path
    provider: IdentityProvider
    trust_config: Path
    trusted_root: Path

    def token_file(self, mail: str, **claims: object) -> str:
        path = self.folder / "token"
        # as `echo` writes it
        path.write_text(self.provider.token(mail, **claims) + "\n")
        return str(path)


@contextmanager
def sigstore(folder: Path, *, logs: int | None = 2) -> Iterator[Instance]:
    """The block in which an instance runs, with logs of a version; without, timestamps alone."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        provider = stack.enter_context(identity_provider())
        authority = _authority()
        clock, clock_chain = _clock(stack, folder)
        ctlogs, tlogs, services = [], [], []
        to_log: list[object] = ["--ct-log-url", ""]
        if logs:
            certificates, to_log = _certificate_log(stack, folder, authority)
            ctlogs.append(certificates)
            if logs == 1:
                url, key = stack.enter_context(rekor())
                tlogs.append(_log("https://rekor.local", key))
            else:
                log, url = _signature_log(stack, folder)
                tlogs.append(log)
            services.append(_service(url, logs))
        fulcio = _fulcio(stack, folder, authority, provider, to_log)
        root = {
            "mediaType": ROOT,
            "tlogs": tlogs,
            "certificateAuthorities": [_trusted([authority])],
            "ctlogs": ctlogs,
            "timestampAuthorities": [_trusted(clock_chain)],
        }
        config = {
            "mediaType": CONFIG,
            "trustedRoot": root,
            "signingConfig": {
                "mediaType": SERVICES,
                "caUrls": [_service(fulcio, 1)],
                "oidcUrls": [_service(provider.url, 1)],
                "rekorTlogUrls": services,
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaUrls": [_service(clock, 1)],
                "tsaConfig": {"selector": "ANY"},
            },
        }
        (folder / "trust_config.json").write_text(json.dumps(config))
        (folder / "signing_config.json").write_text(json.dumps(config["signingConfig"]))
        (folder / "trusted_root.json").write_text(json.dumps(root))
        yield Instance(folder, provider, folder / "trust_config.json", folder / "trusted_root.json")


@contextmanager
def timestamp_authority(folder: Path) -> Iterator[tuple[str, Certified]]:
    """The block in which a timestamp authority runs: its address, and its root."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        url, chain = _clock(stack, folder)
        yield url, chain[-1]


def _authority() -> Certified:
    """The certificate that Fulcio signs with, with all that the public one's has."""
    signer = Signer(ec.generate_private_key(ec.SECP256R1()))
    public = signer.key.public_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    return Certified(signer, certificate)


def _clock(stack: ExitStack, folder: Path) -> tuple[str, Sequence[Certified]]:
    root = certified("clock authority", authority=True, key_usage=True)
    leaf = certified(
        "clock", root, usage=ExtendedKeyUsageOID.TIME_STAMPING, critical_usage=True, key_usage=True
    )
    (folder / "clock.pem").write_bytes(leaf.pem + root.pem)
    (folder / "clock.key").write_bytes(leaf.key_pem)
    # its numbers have a fixed port: it gets a network of its own, and is asked through a socket
    # at a short path, since those of sockets may not be long
    socket_ = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clock-"))) / "socket"
    words = ("serve", "--scheme", "unix", "--socket-path", socket_, "--disable-ntp-monitoring")
    keys = ("--timestamp-signer", "file", "--file-signer-key-path", folder / "clock.key")
    chain = ("--certificate-chain-path", folder / "clock.pem")
    _start(stack, folder, "timestamp-server", *words, *keys, *chain, alone=True)
    url = stack.enter_context(_forwarded(socket_))
    _wait(stack, folder / "timestamp-server.log", f"{url}/ping")
    return f"{url}/api/v1/timestamp", (leaf, root)


@contextmanager
def _forwarded(path: Path) -> Iterator[str]:
    """The block in which a server that listens on a socket is one of loopback too."""

    class Connection(HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(path))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with closing(Connection("clock")) as asked:
                length = int(self.headers.get("Content-Length", "0"))
                kind = {"Content-Type": self.headers.get("Content-Type", "")}
                try:
                    asked.request(self.command, self.path, self.rfile.read(length) or None, kind)
                    found = asked.getresponse()
                    body = found.read()
                except OSError:
                    # it has not begun to listen
                    self.close_connection = True
                    return
            self.send_response(found.status)
            self.send_header("Content-Type", found.headers.get("Content-Type", ""))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with _serving(Handler) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _certificate_log(
    stack: ExitStack, folder: Path, authority: Certified
) -> tuple[Mapping[str, object], list[object]]:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "ct.key").write_bytes(pem)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "ct.pub").write_bytes(public)
    authority.write(folder / "authority.pem")
    (folder / "ct").mkdir()
    port = _port()
    words = ("--private_key", folder / "ct.key", "--origin", "ct", "--storage_dir", folder / "ct")
    where = ("--http_endpoint", f"127.0.0.1:{port}", "--ext_key_usages", "CodeSigning")
    roots = ("--roots_pem_file", folder / "authority.pem")
    # a test does not wait for the log to publish what it has promised to
    _start(stack, folder, "tesseract", *words, *where, *roots, "--enable_publication_awaiter=false")
    url = f"http://127.0.0.1:{port}"
    _wait(stack, folder / "tesseract.log", f"{url}/ct/v1/get-roots")
    found = _log(url, key.public_key())
    return found, ["--ct-log-url", url, "--ct-log-origin", "ct"]


def _signature_log(stack: ExitStack, folder: Path) -> tuple[Mapping[str, object], str]:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "rekor.key").write_bytes(pem)
    port, other, metrics = _port(), _port(), _port()
    words = ("serve", "--hostname", "rekor.local", "--http-port", port, "--grpc-port", other)
    where = ("--http-metrics-port", metrics, "--storage-dir", folder / "rekor")
    keys = ("--signer-filepath", folder / "rekor.key", "--checkpoint-interval", "200ms")
    (folder / "rekor").mkdir()
    _start(stack, folder, "rekor-server", *words, *where, *keys)
    url = f"http://127.0.0.1:{port}"
    _wait(stack, folder / "rekor-server.log", f"{url}/healthz")
    return _log("https://rekor.local", key.public_key()), url


def _fulcio(
    stack: ExitStack,
    folder: Path,
    authority: Certified,
    provider: IdentityProvider,
    to_log: Sequence[object],
) -> str:
    authority.write(folder / "authority.pem")
    secret = BestAvailableEncryption(b"secret")
    key = authority.signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
    (folder / "authority.key").write_bytes(key)
    issuer = {"IssuerURL": provider.url, "ClientID": "sigstore", "Type": "email"}
    (folder / "fulcio.json").write_text(json.dumps({"OIDCIssuers": {provider.url: issuer}}))
    port, other, metrics = _port(), _port(), _port()
    words = ("serve", "--host", "127.0.0.1", "--port", port, "--metrics-port", metrics)
    grpc = ("--grpc-host", "127.0.0.1", "--grpc-port", other)
    socket_ = ("--legacy-unix-domain-socket", f"@fulcio-{other}")
    keys = ("--ca", "fileca", "--fileca-cert", folder / "authority.pem")
    more = ("--fileca-key", folder / "authority.key", "--fileca-key-passwd", "secret")
    config = ("--config-path", folder / "fulcio.json", "--fileca-watch=false")
    _start(stack, folder, "fulcio", *words, *grpc, *socket_, *keys, *more, *config, *to_log)
    url = f"http://127.0.0.1:{port}"
    _wait(stack, folder / "fulcio.log", f"{url}/healthz")
    return url


def _start(stack: ExitStack, folder: Path, name: str, *words: object, alone: bool = False) -> None:
    path = _PLACE / name
    program = str(path) if path.is_file() else shutil.which(name)
    assert program is not None
    log = stack.enter_context((folder / f"{name}.log").open("wb"))
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    process = subprocess.Popen(
        [*(_ALONE if alone else ()), program, *map(str, words)],
        stdout=log,
        stderr=log,
        env=environ,
        cwd=folder,
    )

    def end() -> None:
        process.kill()
        process.wait(10)

    stack.callback(end)


def _wait(stack: ExitStack, log: Path, url: str) -> None:
    """Until a server answers, whatever it says."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        try:
            urlopen(url, timeout=5).close()
        except HTTPError as exc:
            exc.close()
            return
        except (URLError, ConnectionError, HTTPException, TimeoutError):
            time.sleep(0.05)
        else:
            return
    stack.close()
    raise AssertionError(f"{url} does not answer: {log.read_text()[-2000:]}")


def _log(url: str, key: ec.EllipticCurvePublicKey) -> Mapping[str, object]:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": _encoded(der),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": "2020-01-01T00:00:00Z"},
        },
        "logId": {"keyId": _encoded(hashlib.sha256(der).digest())},
    }


def _trusted(chain: Sequence[Certified]) -> Mapping[str, object]:
    name = chain[-1].certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    return {
        "subject": {"organization": "tests", "commonName": str(name)},
        "uri": "https://authority.local",
        "certChain": {"certificates": [{"rawBytes": _encoded(each.der)} for each in chain]},
        "validFor": {"start": "2020-01-01T00:00:00Z"},
    }


def _service(url: str, version: int) -> Mapping[str, object]:
    return {
        "url": url,
        "majorApiVersion": version,
        "validFor": {"start": "2020-01-01T00:00:00Z"},
        "operator": "tests",
    }


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
