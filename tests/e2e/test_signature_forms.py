"""Signatures of other makers: verified, or named for what they are."""

import base64
import hashlib
import json
import os
import socket
import subprocess
import venv
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.authority import Certified, certified
from tests.support.cosign import COSIGN_3, cosign
from tests.support.docker_registry import docker_registry, needs_docker_registry, push_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry
from tests.support.signing import (
    BUNDLE,
    SIMPLE,
    STATEMENT,
    Signer,
    bundle,
    keyless_bundle,
    signature_artifact,
    simple_signature,
)


@pytest.fixture
def root() -> Certified:
    return certified("root", authority=True)


@pytest.fixture
def leaf(root: Certified) -> Certified:
    return certified("leaf", root, mail="models@example.com")


@pytest.fixture
def name(registry: Registry, tiny: Artifact) -> str:
    registry.add(tiny, "team/m", ["1"])
    return registry.reference("team/m:1")


def refer(registry: Registry, tiny: Artifact, *referrers: Artifact) -> None:
    """Other things refer to the model, in the list under the tag of its digest."""
    for referrer in referrers:
        registry.add(referrer, "team/m", [tiny.digest.replace(":", "-")])


def enforce(cli: CommandLine, *words: str) -> None:
    found = cli("trust", "add", "*", *words)
    assert found.returncode == 0, found.stderr


def certified_bundle(leaf: Certified, subject: Artifact, chain: list[bytes]) -> Artifact:
    """A bundle with the certificates of its signer."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": subject.digest.removeprefix("sha256:")}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    }
    document = _bundle(statement, leaf.signer)
    document["verificationMaterial"] = {
        "x509CertificateChain": {"certificates": [{"rawBytes": _encoded(der)} for der in chain]}
    }
    return signature_artifact(json.dumps(document).encode(), BUNDLE, subject)


def model_signature(
    signer: Signer, subject: Artifact, files: dict[str, str], *, version: str = "v1.0"
) -> Artifact:
    """What `model_signing sign key` writes for a directory with these files."""
    digest = hashlib.sha256(b"".join(bytes.fromhex(each) for _, each in sorted(files.items())))
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "m", "digest": {"sha256": digest.hexdigest()}}],
        "predicateType": f"https://model_signing/signature/{version}",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [
                {"name": name, "digest": found, "algorithm": "sha256"}
                for name, found in sorted(files.items())
            ],
        },
    }
    content = json.dumps(_bundle(statement, signer)).encode()
    return signature_artifact(content, BUNDLE, subject)


def _bundle(statement: object, signer: Signer) -> dict[str, object]:
    payload = json.dumps(statement).encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(STATEMENT), STATEMENT.encode(), len(payload), payload)
    return {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": ""}},
        "dsseEnvelope": {
            "payload": _encoded(payload),
            "payloadType": STATEMENT,
            "signatures": [{"sig": _encoded(signer.sign(signed))}],
        },
    }


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_a_certificate_of_ones_own_authority_counts(
    cli: CommandLine,
    registry: Registry,
    name: str,
    tiny: Artifact,
    root: Certified,
    leaf: Certified,
    tmp_path: Path,
) -> None:
    enforce(cli, "--ca", str(root.write(tmp_path / "ca.pem")), "--identity", "models@example.com")
    stranger = certified("leaf", certified("root", authority=True), mail="models@example.com")
    somebody = certified("leaf", root, mail="else@example.com")
    for other in (stranger, somebody):
        refer(registry, tiny, certified_bundle(other, tiny, [other.der]))
    # signed by somebody who shows the certificate of another
    liar = Certified(stranger.signer, leaf.certificate)
    refer(registry, tiny, certified_bundle(liar, tiny, [leaf.der]))

    refused = cli("pull", name)
    refer(registry, tiny, certified_bundle(leaf, tiny, [leaf.der]))
    pulled = cli("pull", name)

    assert refused.returncode == 6
    for why in (
        "its certificate is not of a configured authority",
        "signed with a certificate of else@example.com",
        "signed with a certificate, which is not the one that signed",
    ):
        assert why in refused.stderr
    assert pulled.returncode == 0, pulled.stderr
    tested = cli("trust", "test", name)
    assert "signature (bundle): valid, certificate of models@example.com\n" in tested.stdout


def test_the_simple_form_with_a_certificate_counts(
    cli: CommandLine,
    registry: Registry,
    name: str,
    tiny: Artifact,
    root: Certified,
    leaf: Certified,
    tmp_path: Path,
) -> None:
    enforce(cli, "--ca", str(root.write(tmp_path / "ca.pem")))
    signature = simple_signature(leaf.signer, tiny.digest)
    manifest = json.loads(signature.manifest)
    manifest["layers"][0]["annotations"]["dev.sigstore.cosign/certificate"] = leaf.pem.decode()
    manifest["layers"][0]["annotations"]["dev.sigstore.cosign/chain"] = root.pem.decode()
    signature = Artifact(json.dumps(manifest).encode(), signature.media_type, signature.blobs)
    registry.add(signature, "team/m", [tiny.digest.replace(":", "-") + ".sig"])

    found = cli("pull", name)

    assert SIMPLE in signature.manifest.decode()
    assert found.returncode == 0, found.stderr


def test_a_certificate_as_a_key_counts_whoever_has_issued_it(
    cli: CommandLine,
    registry: Registry,
    name: str,
    tiny: Artifact,
    leaf: Certified,
    tmp_path: Path,
) -> None:
    enforce(cli, "--key", str(leaf.write(tmp_path / "leaf.crt")))
    refer(registry, tiny, certified_bundle(leaf, tiny, [leaf.der]))

    assert cli("pull", name).returncode == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"SHA256SUMS": "a" * 64}, None),
        ({"model.gguf": "b" * 64}, "model.gguf is another one than was signed"),
        ({"more.json": "c" * 64}, "more.json is signed, and not in the model"),
        ({"LICENSE": None}, "LICENSE is not signed"),
    ],
)
def test_a_signature_of_the_files_counts_for_exactly_them(
    cli: CommandLine,
    registry: Registry,
    name: str,
    tmp_path: Path,
    tiny: Artifact,
    change: dict[str, str | None],
    problem: str | None,
) -> None:
    signer = Signer.make()
    enforce(cli, "--key", str(signer.publish(tmp_path / "team.pub")))
    layers = json.loads(tiny.manifest)["layers"]
    names = ("model.gguf", "LICENSE")
    files = {
        path: layer["digest"].removeprefix("sha256:")
        for path, layer in zip(names, layers, strict=True)
    }
    signed = {path: found for path, found in {**files, **change}.items() if found is not None}
    refer(registry, tiny, model_signature(signer, tiny, signed))

    found = cli("pull", name)

    if problem is None:
        assert found.returncode == 0, found.stderr
    else:
        assert found.returncode == 6
        assert problem in found.stderr


@pytest.mark.parametrize(
    ("media_type", "what"),
    [
        ("application/cose", "a Notation signature (COSE)"),
        ("application/pgp-signature", "a GPG signature"),
        ("application/vnd.acme.signature.v1", "a signature of type application/vnd.acme.signature"),
    ],
)
def test_a_form_that_is_not_read_is_named(
    cli: CommandLine,
    registry: Registry,
    name: str,
    tiny: Artifact,
    tmp_path: Path,
    media_type: str,
    what: str,
) -> None:
    enforce(cli, "--key", str(Signer.make().publish(tmp_path / "team.pub")))
    refer(registry, tiny, signature_artifact(b"signed", media_type, tiny))

    found = cli("pull", name)

    assert found.returncode == 6
    assert f"no valid signature: present, not verified: {what}" in found.stderr


def test_a_model_signature_of_another_version_is_named(
    cli: CommandLine, registry: Registry, name: str, tiny: Artifact, tmp_path: Path
) -> None:
    signer = Signer.make()
    enforce(cli, "--key", str(signer.publish(tmp_path / "team.pub")))
    refer(registry, tiny, model_signature(signer, tiny, {"a": "a" * 64}, version="v9"))

    found = cli("pull", name)

    assert found.returncode == 6
    assert "present, not verified: a model signature of another version" in found.stderr


@pytest.mark.real
def test_what_model_signing_signs_is_verified(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    words = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    # it imports pyOpenSSL without asking for it
    got = subprocess.run(
        [*words, "model-signing==1.1.1", "pyopenssl"], check=False, capture_output=True
    )
    if got.returncode != 0:
        pytest.skip("needs model-signing from the package index")
    leaf = certified("leaf")
    (tmp_path / "key.pem").write_bytes(leaf.key_pem)
    model = docker_artifact(tiny_gguf(tmp_path / "m.gguf").read_bytes(), license=b"free\n")
    registry.add(model, "team/m", ["1"])
    name = registry.reference("team/m:1")
    files = tmp_path / "files"
    assert cli("pull", name, "--output", str(files)).returncode == 0
    signature = tmp_path / "model.sig"
    subprocess.run(
        [
            *(str(home / "bin" / "python"), "-m", "model_signing", "sign", "key"),
            *("--private_key", str(tmp_path / "key.pem"), "--signature", str(signature)),
            str(files),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    refer(registry, model, signature_artifact(signature.read_bytes(), BUNDLE, model))
    enforce(cli, "--key", str(leaf.signer.publish(tmp_path / "team.pub")))

    found = cli("pull", name)

    assert found.returncode == 0, found.stderr


@needs_docker_registry
@pytest.mark.real
@pytest.mark.parametrize("form", ["bundle", "simple"])
def test_cosigns_signature_with_a_certificate_is_verified(
    cli: CommandLine, root: Certified, leaf: Certified, tiny: Artifact, tmp_path: Path, form: str
) -> None:
    if COSIGN_3 is None:
        pytest.skip("needs cosign 3: `.ci/cosign` builds it")
    (tmp_path / "key.pem").write_bytes(leaf.key_pem)
    leaf.write(tmp_path / "leaf.pem")
    root.write(tmp_path / "ca.pem")
    cosign(COSIGN_3, "import-key-pair", "--key", "key.pem", cwd=tmp_path)
    with docker_registry(tmp_path / "registry") as away:
        name = away.reference("team/m:1")
        push_artifact(away, tiny, "team/m", ["1"])
        cosign(
            COSIGN_3,
            *("sign", "--key", "import-cosign.key", "--yes", "--allow-http-registry"),
            *("--certificate", "leaf.pem", "--certificate-chain", "ca.pem"),
            *("--tlog-upload=false", "--use-signing-config=false"),
            *(("--new-bundle-format=false",) if form == "simple" else ()),
            f"{away.host}/team/m@{tiny.digest}",
            cwd=tmp_path,
        )
        enforce(cli, "--ca", str(tmp_path / "ca.pem"), "--identity", "models@example.com")

        found = cli("pull", name)

        assert found.returncode == 0, found.stderr


def test_a_model_is_judged_before_it_is_pulled(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    signer = Signer.make()
    key = signer.publish(tmp_path / "team.pub")
    template = b"{{ ''.__class__.__mro__ }}"
    model = docker_artifact(
        tiny_gguf(tmp_path / "m.gguf").read_bytes(), license=b"free\n", template=template
    )
    registry.add(model, "team/m", ["1"])
    name = registry.reference("team/m:1")
    refer(
        registry, model, bundle(signer, model), signature_artifact(b"{}", "text/spdx+json", model)
    )

    found = json.loads(cli("inspect", "--remote", "--security", name, "--key", str(key)).stdout)

    assert found["id"] == model.digest
    assert found["license"]["files"] == ["LICENSE"]
    assert [entry["within_bounds"] for entry in found["gguf"]] == [True]
    assert found["chat_templates"][0]["findings"][0]["level"] == "danger"
    assert [entry["verified"] for entry in found["signatures"]] == [True]
    assert {entry["kind"] for entry in found["referrers"]} == {"signature", "SBOM"}
    # nothing was stored, and no weights were asked for
    assert not (cli.home / "store").exists()
    pulled = cli("pull", name)
    assert pulled.returncode == 0, pulled.stderr
    local = json.loads(cli("inspect", "--security", name, "--key", str(key), "--offline").stdout)
    same = ("id", "license", "gguf", "chat_templates", "packaged", "origin", "signatures")
    assert {each: local[each] for each in same} == {each: found[each] for each in same}


def test_without_a_network_nobody_is_asked_for_the_root_of_sigstore(
    cli: CommandLine, registry: Registry, tiny: Artifact, tmp_path: Path
) -> None:
    registry.add(tiny, "team/m", ["1"])
    registry.add(keyless_bundle(tiny), "team/m", [tiny.digest.replace(":", "-")])
    name = registry.reference("team/m:1")
    assert cli("pull", name).returncode == 0
    rule = ("--identity", "me@example.com", "--issuer", "https://accounts.example.com")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        environ = {"HTTPS_PROXY": url, "https_proxy": url, "XDG_CACHE_HOME": str(tmp_path)}
        looked = cli("inspect", "--security", name, *rule, "--offline", **environ)
        assert cli("trust", "add", "*", *rule).returncode == 0
        refused = cli("pull", name, "--offline", **environ)
        tested = cli("trust", "test", name, "--offline", **environ)
        with pytest.raises(BlockingIOError):
            proxy.accept()

    (signature,) = json.loads(looked.stdout)["signatures"]
    assert looked.stderr == ""
    assert signature["problem"].startswith("Sigstore verification failed: ")
    assert refused.returncode == 6
    assert "no valid signature: Sigstore verification failed: " in refused.stderr
    assert tested.returncode == 6
