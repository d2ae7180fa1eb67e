"""Certificates that are read before anything is started."""

import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelrunner.errors import UsageError
from modelrunner.serve.process.certificate import Certificate
from tests.support.registry_tls import Certificate as Files
from tests.support.registry_tls import can_make_certificates

pytestmark = pytest.mark.skipif(not can_make_certificates(), reason="no openssl command")


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    made = Files.make()
    yield made
    made.remove()


def openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


def refused(certificate: Path, key: Path) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        Certificate.load(certificate, key)
    return caught.value.message, caught.value.hint or ""


def test_what_is_read_is_what_openssl_says(files: Files) -> None:
    found = Certificate.load(files.file, files.key)
    assert found.context.minimum_version == ssl.TLSVersion.TLSv1_2
    said = openssl("x509", "-in", str(files.file), "-noout", "-fingerprint", "-sha256", "-dates")
    lines = dict(line.split("=", 1) for line in said.decode().splitlines())
    fingerprint = next(value for name, value in lines.items() if name.endswith("Fingerprint"))
    assert found.fingerprint == fingerprint.replace(":", "").lower()
    for moment, name in ((found.begins, "notBefore"), (found.ends, "notAfter")):
        assert moment.strftime("%b %e %H:%M:%S %Y GMT") == lines[name]


def test_a_certificate_out_of_its_time_is_warned_of(files: Files) -> None:
    found = Certificate.load(files.file, files.key)
    second = timedelta(seconds=1)
    assert found.warning(datetime.now(UTC)) is None
    assert found.warning(found.begins) is None
    assert found.warning(found.ends - second) is None
    ends = found.ends.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found.warning(found.ends) == f"the certificate of --tls-cert expired at {ends}"
    begins = found.begins.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found.warning(found.begins - second) == (
        f"the certificate of --tls-cert is not valid before {begins}"
    )


def test_the_key_of_another_certificate_is_refused(files: Files) -> None:
    other = Files.make()
    message, hint = refused(files.file, other.key)
    assert message == f"--tls-key: {other.key} is not the private key of {files.file}"
    assert "begins with the server's certificate" in hint
    other.remove()


def test_an_encrypted_key_is_refused(files: Files, tmp_path: Path) -> None:
    key = tmp_path / "encrypted.pem"
    openssl("pkey", "-in", str(files.key), "-aes256", "-passout", "pass:x", "-out", str(key))
    message, hint = refused(files.file, key)
    assert message == f"--tls-key: {key} is encrypted"
    assert hint == f"write it without a passphrase: `openssl pkey -in {key} -out FILE.pem`"


def test_files_that_are_not_pem_are_refused(files: Files, tmp_path: Path) -> None:
    der = tmp_path / "der"
    openssl("x509", "-in", str(files.file), "-outform", "der", "-out", str(der))
    assert refused(der, files.key)[0] == f"--tls-cert: {der} has no certificate in PEM form"
    assert refused(files.file, files.file)[0] == (
        f"--tls-key: {files.file} has no private key in PEM form"
    )
    assert refused(files.key, files.file)[0] == (
        f"--tls-cert: {files.key} has no certificate in PEM form"
    )
    missing = tmp_path / "missing"
    assert refused(missing, files.key)[0] == (
        f"--tls-cert: cannot read {missing}: no such file or directory"
    )
    assert refused(files.file, missing)[0].startswith(f"--tls-key: cannot read {missing}: ")


@pytest.mark.parametrize("part", ["certificate", "key"])
def test_a_damaged_file_is_refused(files: Files, tmp_path: Path, part: str) -> None:
    damaged = tmp_path / "damaged.pem"
    whole = (files.file if part == "certificate" else files.key).read_text()
    head, middle, *rest = whole.splitlines()
    damaged.write_text("\n".join([head, "AAAA" + middle[4:], *rest]))
    pair = (damaged, files.key) if part == "certificate" else (files.file, damaged)
    message, hint = refused(*pair)
    assert message.startswith(f"--tls-cert and --tls-key: cannot use {pair[0]} with {pair[1]}: ")
    assert hint.startswith("check both: `openssl x509 ")


def test_certificate_and_key_may_be_in_one_file(files: Files, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(files.key.read_text() + files.file.read_text())
    alone = Certificate.load(files.file, files.key)
    assert Certificate.load(both, both).fingerprint == alone.fingerprint
