"""Signatures against public keys: ECDSA, Ed25519 and RSA, as cosign makes them."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.errors import ConfigError
from modelrunner.system import installation
from modelrunner.text import os_reason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_LIMIT = 64 * 1024
_LEAST_RSA = 2048
"""Bits of a key (source: the Notary Project's `signature-specification.md`)."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are compared with.

    Attributes:
        name: Where it comes from, for people.
        fingerprint: The SHA-256 of its DER form, in hex.
    """

    name: str
    fingerprint: str
    _key: "PublicKeyTypes" = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> "PublicKey":
        """A key in PEM.

        Raises:
            ConfigError: It cannot be read, is invalid, or nothing is installed that reads it.
        """
        require()
        try:
            # outside: a key that a person names
            with path.open("rb") as file:
                raw = file.read(_LIMIT)
        except OSError as exc:
            raise ConfigError(
                f"cannot read the public key {path}: {os_reason(exc)}",
                hint="check the path in --key, or in `keys` of verify.toml",
                path=str(path),
            ) from exc
        try:
            return cls.from_pem(raw, str(path))
        except ValueError as exc:
            raise ConfigError(
                f"{path} is not a public key in PEM format",
                hint="create one with `cosign public-key --key cosign.key`",
                path=str(path),
            ) from exc

    @classmethod
    def from_pem(cls, raw: bytes, name: str) -> "PublicKey":
        """A key in PEM, by itself or in a certificate.

        Args:
            raw: It.
            name: Where it comes from, for people.

        Raises:
            ValueError: It is not one, or of an unknown kind.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from cryptography.x509 import InvalidVersion, load_pem_x509_certificate

        try:
            if b"BEGIN CERTIFICATE" in raw:
                return cls.of(load_pem_x509_certificate(raw).public_key(), name)
            return cls.of(load_pem_public_key(raw), name)
        except (InvalidVersion, UnsupportedAlgorithm) as exc:
            raise ValueError("unknown kind of key") from exc

    @classmethod
    def from_der(cls, raw: bytes, name: str) -> "PublicKey":
        """A key in DER, with where it comes from, for people.

        Raises:
            ValueError: It is not one, or of an unknown kind.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        try:
            return cls.of(load_der_public_key(raw), name)
        except UnsupportedAlgorithm as exc:
            raise ValueError("unknown kind of key") from exc

    @property
    def der(self) -> bytes:
        """The key in DER, whose SHA-256 the fingerprint is."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def of(cls, key: "PublicKeyTypes", name: str) -> "PublicKey":
        """A key of `cryptography`, with where it comes from, for people."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(name, sha256(der).hexdigest(), key)

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Whether the signature was made by this key's owner over these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

        def holds() -> None:
            match self._key:
                case ec.EllipticCurvePublicKey():
                    _verify_ecdsa(self._key, signature, signed)
                case ed25519.Ed25519PublicKey():
                    self._key.verify(signature, signed)
                case rsa.RSAPublicKey():
                    self._key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
                case _:
                    raise InvalidSignature

        try:
            holds()
        except InvalidSignature:
            return False
        return True

    def verifies_jws(self, algorithm: str, signature: bytes, signed: bytes) -> bool:
        """Whether a signature was made by this key's owner, by one of the ways of JWS.

        Args:
            algorithm: The way, by its name.
            signature: The signature, as JWS has it.
            signed: The bytes that were signed.

        Raises:
            ConfigError: Nothing is installed that verifies it.
        """
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

        try:
            from jwt import get_algorithm_by_name
            from jwt.exceptions import InvalidKeyError
        except ImportError as exc:
            raise ConfigError(
                "cannot verify Notation signatures: pyjwt is not installed",
                hint=f"`{installation.add('sigstore')}`",
            ) from exc
        if isinstance(self._key, RSAPublicKey) and self._key.key_size < _LEAST_RSA:
            return False
        way = get_algorithm_by_name(algorithm)
        try:
            return bool(way.verify(signed, way.prepare_key(self._key), signature))
        except (InvalidKeyError, TypeError, ValueError):
            # a key of another kind than the algorithm is for
            return False


def _verify_ecdsa(key: "EllipticCurvePublicKey", signature: bytes, signed: bytes) -> None:
    """With SHA-256, as cosign does for all curves, or with the hash of the curve's size."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        of_size = {384: hashes.SHA384(), 521: hashes.SHA512()}.get(key.curve.key_size)
        if of_size is None:
            raise
        key.verify(signature, signed, ec.ECDSA(of_size))


def require() -> None:
    """Makes sure that signatures can be checked.

    Raises:
        ConfigError: The extra `sigstore` is not installed.
    """
    from importlib.util import find_spec

    if find_spec("cryptography") is None:
        raise ConfigError(
            "cannot verify signatures: cryptography is not installed",
            hint=f"`{installation.add('sigstore')}`",
        )
