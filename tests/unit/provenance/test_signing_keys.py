"""Private keys from files, variables and programs: what they sign verifies."""

import base64
import json
import sys
from collections.abc import Callable, Mapping
from hashlib import scrypt
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from nacl.secret import SecretBox

from modelrunner.errors import ConfigError, ModelRunnerError, SigningKeyError
from modelrunner.provenance.signing_keys import SigningKey, signing_key

MESSAGE = b"what is signed"
PASSWORD = b"correct horse"
KEYS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


def pem(
    key: ec.EllipticCurvePrivateKey,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


def cosign_key(key: ec.EllipticCurvePrivateKey, password: bytes, rounds: int = 1 << 12) -> bytes:
    """As `cosign generate-key-pair` writes it, with fewer rounds than usual."""
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, nonce = b"s" * 32, b"n" * 24
    secret = scrypt(password, salt=salt, n=1 << 12, r=8, p=1, maxmem=1 << 26, dklen=32)
    sealed = SecretBox(secret).encrypt(der, nonce).ciphertext
    document = {
        "kdf": {
            "name": "scrypt",
            "params": {"N": rounds, "r": 8, "p": 1},
            "salt": base64.b64encode(salt).decode(),
        },
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(sealed).decode(),
    }
    body = base64.encodebytes(json.dumps(document).encode())
    label = b"ENCRYPTED SIGSTORE PRIVATE KEY"
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, body, label)


def never(_name: str) -> bytes:
    raise AssertionError("no password is needed")


def key_at(
    text: str, environ: Mapping[str, str] | None = None, password: bytes | None = None
) -> SigningKey:
    return signing_key(text, environ or {}, never if password is None else lambda _name: password)


@pytest.fixture
def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize("kind", list(KEYS))
def test_what_a_key_signs_its_public_key_verifies(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(KEYS[kind]()))

    signed = key_at(str(file)).sign(MESSAGE)

    assert signed.public.verifies(signed.signature, MESSAGE)
    assert not signed.public.verifies(signed.signature, MESSAGE + b"!")


@pytest.mark.parametrize(
    "content",
    [
        pem,
        lambda key: pem(key, PrivateFormat.TraditionalOpenSSL),
        lambda key: pem(key, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD)),
        lambda key: pem(key, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(PASSWORD)),
        lambda key: cosign_key(key, PASSWORD),
    ],
    ids=["PKCS #8", "SEC 1", "PKCS #8 encrypted", "SEC 1 encrypted", "cosign's"],
)
def test_every_form_of_a_key_is_read(
    content: Callable[[ec.EllipticCurvePrivateKey], bytes],
    p256: ec.EllipticCurvePrivateKey,
) -> None:
    raw = content(p256)
    password = PASSWORD if b"ENCRYPTED" in raw else None

    signed = key_at("env:KEY", {"KEY": raw.decode()}, password).sign(MESSAGE)

    public = p256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert signed.public.fingerprint == type(signed.public).from_pem(public, "").fingerprint


@pytest.mark.parametrize("form", ["PKCS #8", "cosign's"])
def test_a_wrong_password_is_told(form: str, p256: ec.EllipticCurvePrivateKey) -> None:
    raw = (
        cosign_key(p256, PASSWORD)
        if form == "cosign's"
        else pem(p256, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD))
    )
    with pytest.raises(SigningKeyError) as caught:
        key_at("env:KEY", {"KEY": raw.decode()}, b"wrong")

    assert str(caught.value) == "$KEY: cannot decrypt the private key"
    assert caught.value.exit_code == 4


def test_a_key_that_would_take_all_memory_is_refused(p256: ec.EllipticCurvePrivateKey) -> None:
    raw = cosign_key(p256, PASSWORD, rounds=1 << 30)
    with pytest.raises(SigningKeyError, match="cannot decrypt"):
        key_at("env:KEY", {"KEY": raw.decode()}, PASSWORD)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.pem", "cannot read the private key missing.pem: no such file or directory"),
        ("env:NONE", "--key env:NONE: the variable is not set"),
        ("env:PUBLIC", "$PUBLIC is not a private key in PEM format"),
        ("exec:", "--key exec: names no program"),
        ("exec:'", "--key exec:': unbalanced quotes"),
    ],
)
def test_what_is_not_a_key_is_told(
    text: str, message: str, p256: ec.EllipticCurvePrivateKey
) -> None:
    public = p256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigError) as caught:
        key_at(text, {"PUBLIC": public.decode()})

    assert str(caught.value) == message
    assert caught.value.hint


def test_a_key_of_another_kind_does_not_sign(tmp_path: Path) -> None:
    file = tmp_path / "x25519.pem"
    file.write_bytes(pem(x25519.X25519PrivateKey.generate()))  # type: ignore[arg-type]
    with pytest.raises(SigningKeyError, match="unsupported kind of key"):
        key_at(str(file)).sign(MESSAGE)


PROGRAM = """
import base64, json, sys
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import *
key = load_pem_private_key(open({key!r}, "rb").read(), None)
digest = bytes.fromhex(sys.stdin.readline())
signature = key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
text = base64.b64encode(signature).decode()
print(json.dumps({{"signature": text, "public_key": public.decode()}}))
"""


def program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "sign.py"
    path.write_text(text)
    return f"exec:'{sys.executable}' '{path}'"


def test_a_program_signs_the_digest(tmp_path: Path, p256: ec.EllipticCurvePrivateKey) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(p256))

    signed = key_at(program(tmp_path, PROGRAM.format(key=str(file)))).sign(MESSAGE)

    assert signed.public.verifies(signed.signature, MESSAGE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import sys; sys.exit('no token\\x1b[2J')", "exit code 1: no token"),
        ("print('signed')", "its output is not JSON"),
        ("print('[]')", "its output is not a JSON object"),
        ("print('{}')", "its output has no `signature` or no `public_key`"),
        (
            'print(\'{"signature": "?", "public_key": ""}\')',
            "its signature is not base64",
        ),
        (
            'print(\'{"signature": "AAAA", "public_key": "x"}\')',
            "its public key is not in PEM format",
        ),
    ],
)
def test_a_program_that_does_not_sign_is_told(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError) as caught:
        key_at(program(tmp_path, text)).sign(MESSAGE)

    name = Path(sys.executable).name
    assert str(caught.value) == f"signing program {name}: {problem}"


def test_a_signature_of_another_key_is_not_used(
    tmp_path: Path, p256: ec.EllipticCurvePrivateKey
) -> None:
    public = p256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    answer = json.dumps({"signature": "AAAA", "public_key": public.decode()})
    with pytest.raises(SigningKeyError, match="does not match its public key"):
        key_at(program(tmp_path, f"print({answer!r})")).sign(MESSAGE)


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelRunnerError, match="cannot start it: no such file"):
        key_at(f"exec:{tmp_path}/nothing").sign(MESSAGE)
