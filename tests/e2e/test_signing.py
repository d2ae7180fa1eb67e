"""A model is signed, gets files attached, and both go wherever it goes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.cosign import COSIGN_2, COSIGN_3, cosign
from tests.support.docker_registry import docker_registry, needs_docker_registry, push_artifact
from tests.support.registry import Registry
from tests.support.signing import Signer

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@pytest.fixture
def signer() -> Signer:
    return Signer.make()


@pytest.fixture
def key(signer: Signer, tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


@pytest.fixture
def name(cli: CommandLine, registry: Registry, tiny: Artifact) -> str:
    """A model that is in the store and in its registry."""
    registry.add(tiny, "team/m", ["1"])
    found = registry.reference("team/m:1")
    done(cli, "pull", found)
    return found


def done(cli: CommandLine, *words: str, **environ: str) -> str:
    found = cli(*words, **environ)
    assert found.returncode == 0, found.stderr
    return found.stdout


def other(cli: CommandLine, tmp_path: Path) -> CommandLine:
    """Another machine."""
    home = tmp_path / "elsewhere"
    return replace(cli, home=home, environ={**cli.environ, "MODELRUNNER_HOME": str(home)})


def signatures(cli: CommandLine, name: str, key: Path) -> list[object]:
    found = json.loads(done(cli, "inspect", "--security", name, "--key", str(key), "--offline"))
    signatures: list[object] = found["signatures"]
    return signatures


def test_a_signature_is_kept_verified_and_saved(
    cli: CommandLine, name: str, key: Path, signer: Signer, tmp_path: Path
) -> None:
    public = signer.publish(tmp_path / "key.pub")

    value = json.loads(done(cli, "sign", name, "--key", str(key), "--json"))

    assert value["referrer"]["artifact_type"] == BUNDLE
    assert (value["stored"], value["pushed"]) == (True, False)
    assert value["predicate_type"] == "https://sigstore.dev/cosign/sign/v1"
    assert signatures(cli, name, public) == [
        {
            "form": "bundle",
            "predicate_type": None,
            "verified": True,
            "by": f"key {value['key'][:16]} (key.pub)",
            "problem": None,
        }
    ]
    archive = tmp_path / "m.tar"
    done(cli, "save", name, "-o", str(archive))
    elsewhere = other(cli, tmp_path)
    done(elsewhere, "load", str(archive))
    (elsewhere.home / "verify.toml").write_text(
        f'version = 1\n[[rule]]\nmatch = "*"\nmode = "enforce"\nkeys = ["{public}"]\n'
    )
    done(elsewhere, "pull", name, "--offline")


def test_another_key_does_not_verify(
    cli: CommandLine, name: str, key: Path, tmp_path: Path
) -> None:
    stranger = Signer.make().publish(tmp_path / "stranger.pub")
    done(cli, "sign", name, "--key", str(key))

    (found,) = signatures(cli, name, stranger)

    assert isinstance(found, dict)
    assert (found["verified"], found["problem"]) == (False, "signed with another key")


def test_a_model_of_a_registry_alone_is_signed_there(
    cli: CommandLine, registry: Registry, tiny: Artifact, key: Path, signer: Signer, tmp_path: Path
) -> None:
    registry.add(tiny, "team/m", ["1"])
    name = registry.reference("team/m:1")

    refused = cli("sign", name, "--key", str(key))
    done(cli, "sign", name, "--key", str(key), "--push")

    assert refused.returncode == 3
    assert "add --push for a model that is in its registry alone" in refused.stderr
    public = signer.publish(tmp_path / "key.pub")
    done(cli, "pull", name)
    (found,) = signatures(cli, name, public)
    assert isinstance(found, dict)
    assert found["verified"] is True


def test_a_model_that_its_registry_lacks_is_not_signed_there(
    cli: CommandLine, name: str, registry: Registry, key: Path
) -> None:
    nowhere = registry.reference("team/other:1")
    done(cli, "tag", name, nowhere)

    found = cli("sign", nowhere, "--key", str(key), "--push")

    assert found.returncode == 3
    assert f"hint: push the model first: `modelrunner push {nowhere}`" in found.stderr


def test_an_attestation_says_what_is_in_the_file(
    cli: CommandLine, name: str, key: Path, signer: Signer, tmp_path: Path
) -> None:
    public = signer.publish(tmp_path / "key.pub")
    predicate = tmp_path / "slsa.json"
    predicate.write_text('{"buildDefinition": {"buildType": "https://example.com/b"}}')
    words = ("sign", name, "--key", str(key), "--predicate", str(predicate))

    done(cli, *words, "--type", "slsaprovenance")

    value = json.loads(done(cli, "inspect", "--security", name, "--key", str(public), "--offline"))
    assert value["signatures"] == []
    (found,) = value["attestations"]
    assert (found["predicate_type"], found["verified"]) == ("https://slsa.dev/provenance/v1", True)
    assert cli(*words).returncode == 2
    assert cli(*words, "--type", "no type").returncode == 2
    predicate.write_text("[]")
    assert "is not a JSON object" in cli(*words, "--type", "spdx").stderr


def test_a_file_is_attached_discovered_and_removed_with_the_model(
    cli: CommandLine, name: str, tmp_path: Path
) -> None:
    sbom = tmp_path / "model.spdx.json"
    sbom.write_text('{"spdxVersion": "SPDX-2.3"}')

    done(cli, "attach", name, str(sbom), "--type", "spdx", "--push")
    again = json.loads(done(cli, "attach", name, str(sbom), "--type", "spdx", "--json"))

    found = json.loads(done(cli, "discover", name, "--json"))
    (entry,) = found["referrers"]
    assert entry == {
        **again["referrer"],
        "kind": "SBOM",
        "artifact_type": "application/spdx+json",
        "title": "model.spdx.json",
        "places": ["local store", name.partition("/")[0]],
        "referrers": [],
    }
    assert done(cli, "discover", name, "--type", "signature", "-q") == ""
    none = cli("discover", name, "--type", "signature")
    assert none.stderr == f"nothing of type signature refers to {name}\n"
    assert done(cli, "discover", name, "--type", "sbom", "-q") == f"{entry['digest']}\n"
    done(cli, "rm", name)
    assert not [path for path in cli.home.rglob("blobs/sha256/*") if path.is_file()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing.txt", "--type", "spdx"), "nothing.txt: file not found"),
        ((".", "--type", "spdx"), ".: is a directory, not a file"),
        (("nothing.txt", "--type", "a b"), "invalid type 'a b'"),
    ],
)
def test_what_cannot_be_attached_is_told(
    cli: CommandLine, name: str, words: tuple[str, ...], message: str
) -> None:
    found = cli("attach", name, *words)

    assert found.returncode == 2
    assert found.stderr.startswith(f"error: {message}\nhint: ")


@pytest.mark.parametrize(
    ("kind", "content", "media_type"),
    [
        ("spdx", b'{"spdxVersion": "SPDX-2.3"}', "application/spdx+json"),
        (
            "spdx",
            b'{"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": []}',
            "application/spdx+json",
        ),
        ("spdx", b"# made by hand\nSPDXVersion: SPDX-2.3\n", "text/spdx"),
        (
            "cyclonedx",
            b'\xef\xbb\xbf{"bomFormat": "CycloneDX", "specVersion": "1.6"}',
            "application/vnd.cyclonedx+json",
        ),
        (
            "cyclonedx",
            (
                b'<?xml version="1.0"?><!-- x --><bom version="1"\n'
                b' xmlns="http://cyclonedx.org/schema/bom/1.5"><components/></bom>'
            ),
            "application/vnd.cyclonedx+xml",
        ),
        ("text/spdx", b"SPDXVersion: SPDX-2.2", "text/spdx"),
        ("license", "Freies Gerät".encode(), "application/vnd.cncf.model.doc.v1.raw+license"),
        ("application/x-own", b"\0\1", "application/x-own"),
    ],
)
def test_a_file_is_attached_as_what_it_is(
    cli: CommandLine, name: str, tmp_path: Path, kind: str, content: bytes, media_type: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    value = json.loads(done(cli, "attach", name, str(path), "--type", kind, "--json"))

    assert value["referrer"]["artifact_type"] == media_type


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("spdx", b"{}", "is not a document in SPDX, as spdx has to be"),
        ("spdx", b'{"spdxVersion": 2}', "is not a document in SPDX"),
        ("spdx", b'{"spdxVersion": ', "is not a document in SPDX"),
        ("spdx", b'{"bomFormat": "CycloneDX", "specVersion": "1.6"}', "is not a document in SPDX"),
        ("spdx", b"GGUF\3\0\0\0", "is not a document in SPDX"),
        ("cyclonedx", b'{"spdxVersion": "SPDX-2.3"}', "is not a document in CycloneDX"),
        ("cyclonedx", b"<html/>", "is not a document in CycloneDX"),
        ("cyclonedx", b"[" * 100_000, "is not a document in CycloneDX"),
        (
            "application/spdx+json",
            b"SPDXVersion: SPDX-2.3",
            "is not a document in SPDX, as application/spdx+json has to be: it is text/spdx",
        ),
        ("license", b"%PDF-1.7\xff\xfe", "is not UTF-8 text, as license has to be"),
        ("card", b"", "is not UTF-8 text, as card has to be"),
    ],
)
def test_a_file_that_is_something_else_is_refused(
    cli: CommandLine, name: str, tmp_path: Path, kind: str, content: bytes, message: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    found = cli("attach", name, str(path), "--type", kind)

    assert found.returncode == 2
    assert found.stderr.startswith(f"error: {path} {message}")
    assert "\nhint: " in found.stderr
    assert json.loads(done(cli, "discover", name, "--json", "--offline"))["referrers"] == []


def test_a_password_is_needed_where_a_key_is_encrypted(
    cli: CommandLine, name: str, tmp_path: Path
) -> None:
    key = tmp_path / "encrypted.pem"
    key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )

    asked = cli("sign", name, "--key", str(key))
    wrong = cli("sign", name, "--key", str(key), COSIGN_PASSWORD="wrong")
    done(cli, "sign", name, "--key", str(key), COSIGN_PASSWORD="secret")

    assert asked.returncode == 2
    assert "hint: set COSIGN_PASSWORD to its password" in asked.stderr
    assert wrong.returncode == 4


@needs_docker_registry
@pytest.mark.real
@pytest.mark.parametrize("version", ["3", "2"])
def test_cosign_verifies_what_is_signed_with_its_key(
    cli: CommandLine, tiny: Artifact, tmp_path: Path, version: str
) -> None:
    program = {"2": COSIGN_2, "3": COSIGN_3}[version]
    if program is None:
        pytest.skip(f"needs cosign {version}: `.ci/cosign` builds it")
    cosign(program, "generate-key-pair", cwd=tmp_path)
    with docker_registry(tmp_path / "registry") as away:
        name = away.reference("team/m:1")
        push_artifact(away, tiny, "team/m", ["1"])
        done(cli, "pull", name)
        sbom = tmp_path / "p.json"
        sbom.write_text("{}")
        words = ("sign", name, "--key", str(tmp_path / "cosign.key"))
        done(cli, *words, COSIGN_PASSWORD="secret")
        done(cli, *words, "--predicate", str(sbom), "--type", "spdx", COSIGN_PASSWORD="secret")
        done(cli, "push", name)
        public = ("--key", "cosign.pub", "--allow-http-registry", "--private-infrastructure")
        # the older one asks for a root even where a key is all that counts
        root = tmp_path / "root.json"
        root.write_text(
            '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'
        )
        older = ("--new-bundle-format", "--trusted-root", str(root))
        more = older if version == "2" else ()

        cosign(program, "verify", *public, *more, name, cwd=tmp_path)
        cosign(program, "verify-attestation", *public, *more, "--type", "spdx", name, cwd=tmp_path)
