"""The certificate of a server: read and checked before anything is started."""

import hashlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from modelrunner.errors import UsageError
from modelrunner.text import sanitize_line
from modelrunner.units import format_moment

_LIMIT = 1024 * 1024
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PRIVATE_KEY = b"PRIVATE KEY-----"
_VERSION, _UTC_TIME = 0xA0, 0x17
_VALIDITY = 3
"""Its place in a certificate, after number, algorithm and issuer (RFC 5280, section 4.1)."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key.

    Attributes:
        context: What connections are made with.
        fingerprint: The SHA-256 of the certificate, in hex.
        begins: When it becomes valid.
        ends: When it expires.
    """

    context: ssl.SSLContext = field(repr=False)
    fingerprint: str
    begins: datetime
    ends: datetime

    @classmethod
    def load(cls, certificate: Path, key: Path) -> "Certificate":
        """Read a certificate, with those of its chain after it, and its key, both as PEM.

        Raises:
            UsageError: One of the files cannot be used, or they do not belong together.
        """
        chain = _read(certificate, "--tls-cert")
        if _CERTIFICATE not in chain:
            raise UsageError(
                f"--tls-cert: {certificate} has no certificate in PEM form",
                hint=f"convert it: `openssl x509 -in {certificate} -out FILE.pem`",
            )
        if _PRIVATE_KEY not in _read(key, "--tls-key"):
            raise UsageError(
                f"--tls-key: {key} has no private key in PEM form",
                hint=f"convert it: `openssl pkey -in {key} -out FILE.pem`",
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # the only version of HTTP that is spoken
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(certificate, key, password=_refuse_password)
            first = chain[chain.index(_CERTIFICATE) :].decode("ascii", "replace")
            end = first.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")
            der = ssl.PEM_cert_to_DER_cert(first[:end])
            begins, ends = _validity(der)
        except _EncryptedError as exc:
            raise UsageError(
                f"--tls-key: {key} is encrypted",
                hint=f"write it without a passphrase: `openssl pkey -in {key} -out FILE.pem`",
            ) from exc
        except (OSError, ValueError, IndexError) as exc:
            raise _unusable(certificate, key, exc) from exc
        return cls(context, hashlib.sha256(der).hexdigest(), begins, ends)

    def warning(self, now: datetime) -> str | None:
        """Return why clients refuse it now, None where its time is right."""
        if now >= self.ends:
            return f"the certificate of --tls-cert expired at {format_moment(self.ends)}"
        if now < self.begins:
            return f"the certificate of --tls-cert is not valid before {format_moment(self.begins)}"
        return None


class _EncryptedError(Exception):
    """The key asks for a passphrase."""


def _refuse_password() -> str:
    raise _EncryptedError


def _read(file: Path, option: str) -> bytes:
    try:
        # outside: a file that the user names
        with file.open("rb") as opened:
            return opened.read(_LIMIT)
    except OSError as exc:
        raise UsageError(
            f"{option}: cannot read {file}: {(exc.strerror or 'error').lower()}",
            hint="name a file in PEM form that this user can read",
        ) from exc


def _unusable(certificate: Path, key: Path, error: Exception) -> UsageError:
    reason = getattr(error, "reason", None) or ""
    if "MISMATCH" in reason:
        return UsageError(
            f"--tls-key: {key} is not the private key of {certificate}",
            hint="the file of --tls-cert begins with the server's certificate; those that signed it"
            " come after",
        )
    said = sanitize_line(reason.replace("_", " ").lower(), 100) or "malformed"
    return UsageError(
        f"--tls-cert and --tls-key: cannot use {certificate} with {key}: {said}",
        hint=f"check both: `openssl x509 -noout -in {certificate}`,"
        f" `openssl pkey -noout -in {key}`",
    )


def _validity(certificate: bytes) -> tuple[datetime, datetime]:
    """Return from when to when a certificate in DER is valid.

    Python's `ssl` says so of a peer's certificate only.

    Raises:
        ValueError, IndexError: It is malformed.
    """
    ((_, whole),) = _elements(certificate)
    _, signed = next(_elements(whole))
    elements = [each for each in _elements(signed) if each[0] != _VERSION]
    begins, ends = (_moment(tag, value) for tag, value in _elements(elements[_VALIDITY][1]))
    return begins, ends


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the elements of DER one after another: each a tag and its content."""
    place = 0
    while place < len(data):
        tag, length = data[place], data[place + 1]
        place += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[place : place + count])
            place += count
        yield tag, data[place : place + length]
        place += length


def _moment(tag: int, value: bytes) -> datetime:
    # years of two digits begin with 1950 (RFC 5280), in Python with 1969: no such one is in use
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(value.decode("ascii"), form).replace(tzinfo=UTC)
