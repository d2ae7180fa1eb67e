"""Private keys that sign: from a file, from a variable, or held by a program.

A file has PEM: PKCS #8, PKCS #1 or SEC 1, encrypted or not, or the form of cosign's own, which is
encrypted by scrypt and NaCl's secretbox (source: go-securesystemslib `encrypted/encrypted.go`).

A program that holds a key, of a key service or a token for example, is started for each signature.
It reads a line from its input, the SHA-256 of what is to be signed in hex, and prints a JSON
object: `signature` in base64, over that digest, and `public_key` in PEM. The signature is verified
before it is used.
"""

import base64
import binascii
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import scrypt, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modelrunner.errors import ConfigError, SigningKeyError
from modelrunner.provenance.keys import PublicKey, require
from modelrunner.system import installation
from modelrunner.text import os_reason, sanitize_line
from modelrunner.wire import parse_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_LIMIT = 64 * 1024
_COSIGN = (b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY")
_MOST_SCRYPT = 1 << 20
"""More rounds than any known writer asks for; each takes time and memory."""
_PROGRAM_S = 120.0
"""Seconds that a program may take: somebody may have to touch a token."""

_SHAPES = "use --key FILE, --key env:NAME or --key exec:PROGRAM"

Password = Callable[[str], bytes]
"""Returns the password of a key, by the key's name."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature, and the key that verifies it."""

    signature: bytes
    public: PublicKey


class SigningKey(Protocol):
    """A private key, wherever it is."""

    def sign(self, message: bytes) -> Signed:
        """Sign a message.

        Raises:
            SigningKeyError: The key does not sign.
        """
        ...


@dataclass(frozen=True, slots=True)
class LocalKey:
    """A private key in memory."""

    public: PublicKey
    _key: "PrivateKeyTypes" = field(repr=False)

    def sign(self, message: bytes) -> Signed:
        """Sign a message: an elliptic curve with the hash of its size, RSA with SHA-256."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

        match self._key:
            case ec.EllipticCurvePrivateKey():
                of_size = {384: hashes.SHA384(), 521: hashes.SHA512()}
                chosen = of_size.get(self._key.curve.key_size, hashes.SHA256())
                return Signed(self._key.sign(message, ec.ECDSA(chosen)), self.public)
            case ed25519.Ed25519PrivateKey():
                return Signed(self._key.sign(message), self.public)
            case rsa.RSAPrivateKey():
                signature = self._key.sign(message, padding.PKCS1v15(), hashes.SHA256())
                return Signed(signature, self.public)
            case _:
                raise SigningKeyError(
                    f"{self.public.name}: unsupported kind of key",
                    hint="use an ECDSA, Ed25519 or RSA key",
                )


@dataclass(frozen=True, slots=True)
class ProgramKey:
    """A private key that a program holds.

    Attributes:
        words: The program and its arguments.
        timeout_s: Seconds that it may take.
    """

    words: tuple[str, ...]
    timeout_s: float = _PROGRAM_S

    @property
    def _name(self) -> str:
        return sanitize_line(Path(self.words[0]).name, 80)

    def sign(self, message: bytes) -> Signed:
        """Sign a message; what the program returns is verified first.

        Raises:
            SigningKeyError: It cannot be started, fails, or returns no valid signature.
        """
        value = self._answer(f"{sha256(message).hexdigest()}\n")
        pem, text = value.get("public_key"), value.get("signature")
        if not isinstance(pem, str) or not isinstance(text, str):
            raise self._failed("its output has no `signature` or no `public_key`")
        try:
            signature = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise self._failed("its signature is not base64") from exc
        try:
            public = PublicKey.from_pem(pem.encode(), self._name)
        except ValueError as exc:
            raise self._failed("its public key is not in PEM format") from exc
        if not public.verifies(signature, message):
            raise self._failed("its signature does not match its public key")
        return Signed(signature, public)

    def _answer(self, digest: str) -> Mapping[str, object]:
        try:
            ended = subprocess.run(
                self.words,
                check=False,
                input=digest.encode(),
                capture_output=True,
                timeout=self.timeout_s,
            )
        except OSError as exc:
            raise self._failed(f"cannot start it: {os_reason(exc)}") from exc
        except subprocess.TimeoutExpired as exc:
            raise self._failed(f"no signature after {self.timeout_s:g} s") from exc
        if ended.returncode != 0:
            lines = ended.stderr.decode(errors="replace").strip().splitlines()
            said = f": {sanitize_line(lines[-1], 200)}" if lines else ""
            raise self._failed(f"exit code {ended.returncode}{said}")
        try:
            value = parse_json(ended.stdout[:_LIMIT])
        except ValueError as exc:
            raise self._failed("its output is not JSON") from exc
        if not isinstance(value, dict):
            raise self._failed("its output is not a JSON object")
        return value

    def _failed(self, problem: str) -> SigningKeyError:
        return SigningKeyError(
            f"signing program {self._name}: {problem}",
            hint='it gets a SHA-256 in hex on stdin, and prints {"signature": BASE64, '
            '"public_key": PEM}',
        )


def signing_key(text: str, environ: Mapping[str, str], password: Password) -> SigningKey:
    """Return the key that a text names: `FILE`, `env:NAME` or `exec:PROGRAM`.

    Args:
        text: As people write it.
        environ: The environment.
        password: Called for the password of a key that is encrypted.

    Raises:
        ConfigError: There is no such key, or nothing is installed that signs.
        SigningKeyError: It cannot be decrypted.
    """
    require()
    kind, colon, rest = text.partition(":")
    if colon and kind == "exec":
        return _program(rest)
    if colon and kind == "env":
        value = environ.get(rest)
        if not value:
            raise ConfigError(
                f"--key env:{sanitize_line(rest, 80)}: the variable is not set",
                hint="set it to a private key in PEM format",
            )
        return _local(value.encode(errors="replace"), f"${rest}", password)
    path = Path(text)
    try:
        # outside: a key that a person names
        with path.open("rb") as file:
            raw = file.read(_LIMIT)
    except OSError as exc:
        raise ConfigError(
            f"cannot read the private key {path}: {os_reason(exc)}", hint=_SHAPES, path=str(path)
        ) from exc
    return _local(raw, str(path), password)


def _program(text: str) -> ProgramKey:
    try:
        words = tuple(shlex.split(text))
    except ValueError as exc:
        raise ConfigError(
            f"--key exec:{sanitize_line(text, 80)}: unbalanced quotes", hint=_SHAPES
        ) from exc
    if not words:
        raise ConfigError("--key exec: names no program", hint=_SHAPES)
    return ProgramKey(words)


def _local(raw: bytes, name: str, password: Password) -> LocalKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        load_der_private_key,
        load_pem_private_key,
    )

    shown = sanitize_line(name, 200)
    try:
        if any(label in raw for label in _COSIGN):
            key = load_der_private_key(_cosign(raw, shown, password(shown)), None)
        else:
            secret = password(shown) if _is_encrypted(raw) else None
            key = load_pem_private_key(raw, secret)
    except (KeyError, ValueError, TypeError, UnsupportedAlgorithm) as exc:
        if _is_encrypted(raw):
            raise SigningKeyError(
                f"{shown}: cannot decrypt the private key",
                hint="check the password, in COSIGN_PASSWORD if that is set",
            ) from exc
        raise ConfigError(
            f"{shown} is not a private key in PEM format",
            hint="create one with `cosign generate-key-pair`, or with `openssl genpkey -algorithm "
            "EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem`",
        ) from exc
    return LocalKey(PublicKey.of(key.public_key(), shown), key)


def _is_encrypted(raw: bytes) -> bool:
    # PKCS #8 says it in its label, the older forms in a header
    return b"ENCRYPTED" in raw


def _cosign(raw: bytes, name: str, password: bytes) -> bytes:
    """The key in DER of one in cosign's own form."""
    try:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox
    except ImportError as exc:
        raise ConfigError(
            f"cannot decrypt {name}: PyNaCl is not installed",
            hint=f"`{installation.add('sigstore')}`",
        ) from exc
    lines = [line.strip() for line in raw.splitlines() if line.strip()]
    body = b"".join(line for line in lines if not line.startswith(b"-----"))
    value = parse_json(base64.b64decode(body, validate=True))
    box = value["cipher"] if isinstance(value, dict) else {}
    kdf = value["kdf"] if isinstance(value, dict) else {}
    if not isinstance(kdf, dict) or not isinstance(box, dict):
        raise TypeError
    cost, block, parallel = (_whole(kdf.get("params"), key) for key in ("N", "r", "p"))
    if cost * block * parallel > _MOST_SCRYPT * 8:
        raise ValueError("unreasonable cost")
    secret = scrypt(
        password,
        salt=base64.b64decode(kdf["salt"]),
        n=cost,
        r=block,
        p=parallel,
        maxmem=cost * block * 256 + (1 << 20),
        dklen=SecretBox.KEY_SIZE,
    )
    try:
        sealed, nonce = base64.b64decode(value["ciphertext"]), base64.b64decode(box["nonce"])
        return bytes(SecretBox(secret).decrypt(sealed, nonce))
    except CryptoError as exc:
        raise ValueError("wrong password") from exc


def _whole(params: object, key: str) -> int:
    found = params.get(key) if isinstance(params, dict) else None
    if not isinstance(found, int) or found < 1:
        raise ValueError(key)
    return found
