"""Signatures with a certificate of one's own authority: the chain, the time, and who it is for.

A certificate counts where a chain leads from it to one of the authorities, and where it was valid
when it signed: at the time that a timestamp authority of one's own attests (RFC 3161), else now. No
transparency log is asked. Chains are verified by `cryptography`, timestamps by `rfc3161-client`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.errors import ConfigError, IntegrityError
from modelrunner.provenance.keys import PublicKey, require
from modelrunner.system import installation
from modelrunner.text import os_reason

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, ExtendedKeyUsage, KeyUsage
    from cryptography.x509.verification import Policy

_LIMIT = 1024 * 1024
_ISSUER = "1.3.6.1.4.1.57264.1.1"
"""The extension of Fulcio's certificates that names the identity provider, as bare text."""
_ISSUER_LIMIT = 1024
_MOST_CERTIFICATES = 16
"""Certificates of a chain that are read: real ones have two or three."""


class UntrustedCertificateError(Exception):
    """A certificate does not count; the message says why."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificates that chains may end with.

    Attributes:
        roots: Those that certificates of signers lead to.
        timestamps: Those that timestamps lead to; without any, it is now that counts.
    """

    roots: tuple["Certificate", ...] = field(repr=False)
    timestamps: tuple["Certificate", ...] = field(default=(), repr=False)

    @classmethod
    def load(cls, roots: Sequence[Path], timestamps: Sequence[Path] = ()) -> "Authority":
        """Read the authorities from files in PEM, each with one certificate or several.

        Raises:
            ConfigError: A file cannot be read, or nothing is installed that verifies.
        """
        require()
        return cls(
            tuple(each for path in roots for each in _load(path)),
            tuple(each for path in timestamps for each in _load(path)),
        )

    @classmethod
    def of_der(cls, root: bytes, timestamps: Sequence[bytes]) -> "Authority":
        """An authority of one certificate in DER, and those of its timestamps.

        Raises:
            ValueError: One of them is malformed.
            ConfigError: Nothing is installed that verifies.
        """
        require()
        from cryptography.x509 import InvalidVersion, load_der_x509_certificate

        try:
            return cls(
                (load_der_x509_certificate(root),),
                tuple(map(load_der_x509_certificate, timestamps)),
            )
        except InvalidVersion as exc:
            raise ValueError("unknown version of a certificate") from exc

    def in_der(self) -> list[bytes]:
        """Each certificate in DER: the roots, then those of timestamps."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return [each.public_bytes(Encoding.DER) for each in (*self.roots, *self.timestamps)]

    @property
    def fingerprints(self) -> list[str]:
        """The SHA-256 of each certificate, in hex, sorted; those of timestamps are marked."""
        from cryptography.hazmat.primitives.hashes import SHA256

        signers = sorted(each.fingerprint(SHA256()).hex() for each in self.roots)
        clocks = sorted(f"tsa {each.fingerprint(SHA256()).hex()}" for each in self.timestamps)
        return [*signers, *clocks]

    def signer(
        self,
        chain: Sequence[bytes],
        signature: bytes,
        timestamps: Sequence[bytes] = (),
        *,
        now: datetime | None = None,
    ) -> "Signer":
        """Return who has signed with the first certificate of a chain.

        Args:
            chain: Certificates in DER, the signer's first.
            signature: What the timestamps are over.
            timestamps: Responses of timestamp authorities, in DER.
            now: The time; None for the clock's.

        Raises:
            UntrustedCertificateError: The certificate does not count.
        """
        from cryptography.x509 import InvalidVersion, load_der_x509_certificate

        try:
            read = [load_der_x509_certificate(each) for each in chain[:_MOST_CERTIFICATES]]
            leaf, others = read[0], read[1:]
        except (InvalidVersion, ValueError, IndexError) as exc:
            raise UntrustedCertificateError("its certificate is malformed") from exc
        moment, is_attested = self._moment(signature, timestamps, now or datetime.now(UTC))
        if not leaf.not_valid_before_utc <= moment <= leaf.not_valid_after_utc:
            when = "when it was signed" if is_attested else "now, and no timestamp says when it was"
            raise UntrustedCertificateError(f"its certificate is not valid {when}")
        root = self._require_chain(leaf, others, moment)
        proved = Authority((root,), self.timestamps if is_attested else ())
        return Signer(PublicKey.of(leaf.public_key(), "certificate"), tuple(_names(leaf)), proved)

    def _moment(
        self, signature: bytes, timestamps: Sequence[bytes], now: datetime
    ) -> tuple[datetime, bool]:
        """The time that counts, and whether an authority attests it."""
        if not self.timestamps:
            return now, False
        for raw in timestamps[:_MOST_CERTIFICATES]:
            found = self._attested(signature, raw)
            if found is not None:
                return found, True
        return now, False

    def _attested(self, signature: bytes, raw: bytes) -> datetime | None:
        try:
            from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response
        except ImportError as exc:
            raise ConfigError(
                "cannot verify timestamps: rfc3161-client is not installed",
                hint=f"`{installation.add('sigstore')}`",
            ) from exc
        builder = VerifierBuilder()
        for each in dict.fromkeys(self.timestamps):
            builder = builder.add_root_certificate(each)
        try:
            response = decode_timestamp_response(raw)
            builder.build().verify_message(response, signature)
        except (VerificationError, ValueError):
            return None
        found = response.tst_info.gen_time
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

    def _require_chain(
        self, leaf: "Certificate", others: Sequence["Certificate"], moment: datetime
    ) -> "Certificate":
        """The certificate of the authority that the chain ends with."""
        from cryptography.x509 import (
            BasicConstraints,
            ExtendedKeyUsage,
            KeyUsage,
            UnsupportedGeneralNameType,
        )
        from cryptography.x509.verification import (
            Criticality,
            ExtensionPolicy,
            PolicyBuilder,
            Store,
            VerificationError,
        )

        # private authorities often leave out what browsers ask of public ones
        authority = (
            ExtensionPolicy.permit_all()
            .require_present(BasicConstraints, Criticality.AGNOSTIC, _check_authority)
            .may_be_present(KeyUsage, Criticality.AGNOSTIC, _check_may_certify)
        )
        signer = (
            ExtensionPolicy.permit_all()
            .may_be_present(BasicConstraints, Criticality.AGNOSTIC, _check_not_authority)
            .may_be_present(ExtendedKeyUsage, Criticality.AGNOSTIC, _check_may_sign)
            .may_be_present(KeyUsage, Criticality.AGNOSTIC, _check_may_sign_digitally)
        )
        verifier = (
            PolicyBuilder()
            .store(Store(list(self.roots)))
            .time(moment)
            .extension_policies(ca_policy=authority, ee_policy=signer)
            .build_client_verifier()
        )
        try:
            return verifier.verify(leaf, list(others)).chain[-1]
        except (UnsupportedGeneralNameType, VerificationError, ValueError) as exc:
            raise UntrustedCertificateError(
                "its certificate is not of a configured authority, or not for signing"
            ) from exc


@dataclass(frozen=True, slots=True)
class Signer:
    """Who a certificate that counts is for.

    Attributes:
        key: Its public key.
        names: Its names: mail addresses, URIs and hosts, else its common name.
        authority: What proved it: the one root, and timestamps where one of them counted.
    """

    key: PublicKey
    names: tuple[str, ...]
    authority: Authority

    @property
    def shown(self) -> str:
        """The signer, for people."""
        return self.names[0] if self.names else f"key {self.key.fingerprint[:16]}"


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a certificate of Sigstore's is for, whether or not it counts.

    Attributes:
        key: Its public key.
        name: The identity.
        issuer: The provider that said so; None where it does not say.
    """

    key: PublicKey
    name: str
    issuer: str | None


def named_in(der: bytes) -> Named:
    """Return whom a certificate is for.

    Raises:
        IntegrityError: It is malformed, or has no identity.
    """
    from cryptography.x509 import load_der_x509_certificate

    try:
        read = load_der_x509_certificate(der)
        key = PublicKey.of(read.public_key(), "certificate")
        return Named(key, next(_names(read)), issuer_in(read))
    except unreadable(StopIteration) as exc:
        raise IntegrityError(
            "the new certificate is malformed, or has no identity",
            hint="check the certificate authority in --trust-config",
        ) from exc


def unreadable(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return the errors of `cryptography` for what it does not understand of a certificate.

    Few of them are a `ValueError`, and some come only when a part is read: a key, an extension.

    Args:
        others: More errors that mean the same to the caller.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import (
        DuplicateExtension,
        InvalidVersion,
        UnsupportedGeneralNameType,
    )

    return (
        *others,
        DuplicateExtension,
        InvalidVersion,
        UnsupportedAlgorithm,
        UnsupportedGeneralNameType,
        ValueError,
    )


def issuer_in(certificate: "Certificate") -> str | None:
    """Return the identity provider that a certificate of Fulcio's names; None where it does not."""
    from cryptography.x509 import ExtensionNotFound, ObjectIdentifier, UnrecognizedExtension

    try:
        found = certificate.extensions.get_extension_for_oid(ObjectIdentifier(_ISSUER)).value
    except (ExtensionNotFound, ValueError):
        return None
    if not isinstance(found, UnrecognizedExtension):
        return None
    # text in the form of version 1 of this extension, without DER around it
    return found.value.decode(errors="replace")[:_ISSUER_LIMIT] or None


def chain_in_pem(raw: bytes) -> list[bytes]:
    """Return the certificates of a text in PEM, in DER.

    Raises:
        ValueError: There are none, or they are malformed.
    """
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import InvalidVersion, load_pem_x509_certificates

    try:
        found = load_pem_x509_certificates(raw[:_LIMIT])
    except InvalidVersion as exc:
        raise ValueError("unknown version of a certificate") from exc
    return [each.public_bytes(Encoding.DER) for each in found]


def _load(path: Path) -> "list[Certificate]":
    from cryptography.x509 import InvalidVersion, load_pem_x509_certificates

    try:
        # outside: a file that a person names
        with path.open("rb") as file:
            return load_pem_x509_certificates(file.read(_LIMIT))
    except OSError as exc:
        raise ConfigError(
            f"cannot read the certificate {path}: {os_reason(exc)}",
            hint="check the path in --ca, or in `ca` and `tsa` of verify.toml",
            path=str(path),
        ) from exc
    except (InvalidVersion, ValueError) as exc:
        raise ConfigError(
            f"{path} has no certificate in PEM format",
            hint="give the certificate of the authority, in PEM format",
            path=str(path),
        ) from exc


def _names(certificate: "Certificate") -> Iterator[str]:
    from cryptography.x509 import (
        DNSName,
        ExtensionNotFound,
        RFC822Name,
        SubjectAlternativeName,
        UniformResourceIdentifier,
    )
    from cryptography.x509.oid import NameOID

    try:
        found = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError):
        for entry in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
            yield str(entry.value)
        return
    for kind in (RFC822Name, UniformResourceIdentifier, DNSName):
        yield from found.get_values_for_type(kind)


def _check_authority(_policy: "Policy", _certificate: "Certificate", extension: object) -> None:
    if not getattr(extension, "ca", False):
        raise ValueError("a certificate of the chain is not of an authority")


def _check_not_authority(_policy: "Policy", _certificate: "Certificate", extension: object) -> None:
    if extension is not None and getattr(extension, "ca", False):
        raise ValueError("the certificate of an authority does not sign models")


def _check_may_certify(
    _policy: "Policy", _certificate: "Certificate", extension: "KeyUsage | None"
) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError("a certificate of the chain may not certify others")


def _check_may_sign_digitally(
    _policy: "Policy", _certificate: "Certificate", extension: "KeyUsage | None"
) -> None:
    if extension is not None and not extension.digital_signature:
        raise ValueError("the certificate is not for signatures")


def _check_may_sign(
    _policy: "Policy", _certificate: "Certificate", extension: "ExtendedKeyUsage | None"
) -> None:
    from cryptography.x509.oid import ExtendedKeyUsageOID

    if extension is None:
        return
    good = (ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if not any(usage in good for usage in extension):
        raise ValueError("the certificate is not for signing code")
