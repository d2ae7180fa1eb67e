"""A package gets lists of its parts and its provenance, which go wherever it goes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.conftest import CommandLine
from tests.support.documents import cyclonedx_faults, slsa_faults, spdx_faults
from tests.support.gguf import tiny_gguf
from tests.support.hugging_face import Repository, hugging_face
from tests.support.registry import Registry
from tests.support.safetensors import TINY, config_json, safetensors_file
from tests.support.signing import Signer

TYPES = ("application/spdx+json", "application/vnd.cyclonedx+json", "application/vnd.in-toto+json")
ALL = ("--sbom", "spdx", "--sbom", "cyclonedx", "--provenance")
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "a place of mine"
    folder.mkdir()
    (folder / "LICENSE").write_text("free\n")
    return tiny_gguf(folder / "tiny-Q4_0.gguf")


def done(cli: CommandLine, *words: object, **environ: str) -> str:
    found = cli(*map(str, words), **environ)
    assert found.returncode == 0, found.stderr
    return found.stdout


def packaged(cli: CommandLine, model: Path, name: str, *words: object) -> dict[str, Any]:
    license_ = ("--license", model.parent / "LICENSE")
    found = done(cli, "package", model, name, *license_, *words, "--json", **EPOCH)
    value: dict[str, Any] = json.loads(found)
    return value


def contents(cli: CommandLine, value: dict[str, Any]) -> dict[str, bytes]:
    """What each document of a package holds, by its type."""
    blobs = cli.home / "models" / "blobs" / "sha256"
    if not blobs.is_dir():
        (blobs,) = {path.parent for path in cli.home.rglob("blobs/sha256/*")}
    found = {}
    for each in value["documents"]:
        manifest = json.loads((blobs / each["digest"].removeprefix("sha256:")).read_bytes())
        (layer,) = manifest["layers"]
        found[each["artifact_type"]] = (
            blobs / layer["digest"].removeprefix("sha256:")
        ).read_bytes()
    return found


def elsewhere(cli: CommandLine, tmp_path: Path, name: str) -> CommandLine:
    """Another machine."""
    home = tmp_path / name
    return replace(cli, home=home, environ={**cli.environ, "MODELRUNNER_HOME": str(home)})


def test_documents_are_valid_and_say_what_the_package_is(cli: CommandLine, model: Path) -> None:
    value = packaged(cli, model, "registry.example.com/team/m:1", *ALL)

    found = contents(cli, value)
    assert tuple(found) == TYPES
    spdx, cyclonedx, statement = (json.loads(found[kind]) for kind in TYPES)
    assert spdx_faults(spdx) == cyclonedx_faults(cyclonedx) == []
    assert slsa_faults(statement["predicate"]) == []
    hexed = value["digest"].removeprefix("sha256:")
    assert statement["subject"] == [{"digest": {"sha256": hexed}}]
    assert [
        each["name"] for each in statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    ] == ["tiny-Q4_0.gguf", "LICENSE"]
    assert [each["name"] for each in cyclonedx["components"]] == ["tiny-Q4_0.gguf", "LICENSE"]
    component = cyclonedx["metadata"]["component"]
    assert component["type"] == "machine-learning-model"
    assert component["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert component["modelCard"]["modelParameters"] == {"modelArchitecture": "llama"}
    assert spdx["packages"][0]["licenseDeclared"] == "Apache-2.0"
    assert spdx["creationInfo"]["created"] == "2023-11-14T22:13:20Z"


def test_the_same_package_has_the_same_documents_and_no_place_of_this_machine(
    cli: CommandLine, model: Path, tmp_path: Path
) -> None:
    other = elsewhere(cli, tmp_path, "other")
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (model, model.parent / "LICENSE"):
        (moved / path.name).write_bytes(path.read_bytes())

    one = packaged(cli, model, "registry.example.com/team/m:1", *ALL)
    two = packaged(other, moved / model.name, "registry.example.com/team/m:1", *ALL)

    assert one["documents"] == two["documents"]
    for content in contents(cli, one).values():
        assert str(tmp_path).encode() not in content
        assert b"a place of mine" not in content


def test_documents_go_where_the_package_goes(
    cli: CommandLine, model: Path, registry: Registry, tmp_path: Path
) -> None:
    name = registry.reference("team/m:1")

    value = packaged(cli, model, name, *ALL, "--push")

    wanted = sorted(each["digest"] for each in value["documents"])
    other = elsewhere(cli, tmp_path, "other")
    done(other, "pull", name, "--referrers", "all")
    found = json.loads(done(other, "discover", name, "--offline", "--json"))["referrers"]
    assert sorted(each["digest"] for each in found) == wanted
    kinds = {each["artifact_type"]: each["kind"] for each in found}
    assert kinds == dict(zip(TYPES, ("SBOM", "SBOM", "attestation"), strict=True))
    assert [each["digest"] for each in found if each["title"] == "sbom.spdx.json"] == [
        value["documents"][0]["digest"]
    ]
    # an unsigned statement is no signature of anybody
    looked = json.loads(done(other, "inspect", "--security", name, "--offline"))
    assert not looked["signatures"]
    assert not looked["attestations"]


def test_a_key_signs_them(cli: CommandLine, model: Path, tmp_path: Path) -> None:
    signer = Signer.make()
    key = tmp_path / "key.pem"
    key.write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = signer.publish(tmp_path / "key.pub")
    name = "registry.example.com/team/m:1"

    packaged(cli, model, name, *ALL, "--sign-key", key)

    looked = json.loads(done(cli, "inspect", "--security", name, "--key", public, "--offline"))
    assert sorted(
        (each["predicate_type"], each["verified"]) for each in looked["attestations"]
    ) == [
        ("https://cyclonedx.org/bom", True),
        ("https://slsa.dev/provenance/v1", True),
        ("https://spdx.dev/Document", True),
    ]
    assert looked["signatures"] == []


def test_a_model_of_another_one_names_it(cli: CommandLine, model: Path, registry: Registry) -> None:
    base = registry.reference("team/base:1")
    packaged(cli, model, base, "--push")
    digest = json.loads(done(cli, "inspect", base))["id"]
    done(cli, "rm", base)
    name = registry.reference("team/m:1")
    words = ("package", "--from", base, name, "--context-size", "1024", *ALL, "--push", "--json")

    value = json.loads(done(cli, *words))

    # it is in the local store too, which its documents are kept in
    found = contents(cli, value)
    statement = json.loads(found[TYPES[2]])
    first = statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert first["digest"] == {"sha256": digest.removeprefix("sha256:")}
    assert spdx_faults(json.loads(found[TYPES[0]])) == []
    (ancestor,) = json.loads(found[TYPES[1]])["metadata"]["component"]["pedigree"]["ancestors"]
    assert ancestor["hashes"][0]["content"] == digest.removeprefix("sha256:")


def test_an_image_has_documents_of_the_files_in_it(cli: CommandLine, model: Path) -> None:
    value = packaged(cli, model, "registry.example.com/team/m:image", *ALL, "--as", "image")

    found = contents(cli, value)
    statement = json.loads(found[TYPES[2]])
    assert statement["subject"][0]["digest"]["sha256"] == value["digest"].removeprefix("sha256:")
    names = [each["name"] for each in json.loads(found[TYPES[1]])["components"]]
    assert names == ["tiny-Q4_0.gguf", "LICENSE"]


def test_a_key_without_anything_to_sign_is_told(cli: CommandLine, model: Path) -> None:
    found = cli("package", str(model), "team/m:1", "--sign-key", "key.pem")

    assert found.returncode == 2
    assert found.stderr == (
        "error: --sign-key needs --sbom or --provenance\n"
        "hint: sign the model itself with `modelrunner sign`\n"
    )


def test_a_repository_of_the_hub_is_named_with_its_commit(
    cli: CommandLine, model: Path, tmp_path: Path
) -> None:
    with hugging_face() as hub:
        hub.repositories["Org/Tiny-GGUF"] = Repository({"Tiny-Q4_0.gguf": model.read_bytes()})
        words = ("package", "--from-hf", "Org/Tiny-GGUF", "registry.example.com/team/m:1")
        value = json.loads(done(cli, *words, *ALL, "--json", HF_ENDPOINT=hub.url))

    found = contents(cli, value)
    first = json.loads(found[TYPES[2]])["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    commit = first["digest"]["gitCommit"]
    assert first["uri"] == f"pkg:huggingface/org/tiny-gguf@{commit}"
    assert spdx_faults(json.loads(found[TYPES[0]])) == []
    assert cyclonedx_faults(json.loads(found[TYPES[1]])) == []
    source = json.loads(found[TYPES[0]])["packages"][-1]
    assert (source["downloadLocation"], source["versionInfo"]) == (
        "https://huggingface.co/Org/Tiny-GGUF",
        commit,
    )


def test_a_directory_of_another_format_has_documents(cli: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(safetensors_file(TINY))
    (folder / "config.json").write_bytes(config_json())
    (folder / "LICENSE").write_text("You may.\n")

    value = packaged_directory(cli, folder)

    found = contents(cli, value)
    spdx = json.loads(found[TYPES[0]])
    assert spdx_faults(spdx) == []
    assert cyclonedx_faults(json.loads(found[TYPES[1]])) == []
    assert spdx["packages"][0]["licenseDeclared"] == "LicenseRef-model"
    assert spdx["hasExtractedLicensingInfos"][0]["extractedText"] == "You may.\n"


def packaged_directory(cli: CommandLine, folder: Path) -> dict[str, Any]:
    words = ("package", folder, "registry.example.com/team/m:1", *ALL, "--json")
    value: dict[str, Any] = json.loads(done(cli, *words, **EPOCH))
    return value


def test_a_quantizer_is_named_with_what_it_was_given(
    cli: CommandLine, model: Path, tmp_path: Path
) -> None:
    place = tmp_path / "programs"
    place.mkdir()
    script = (
        "#!/bin/sh\n"
        'echo "main: build = 4711 (abcdef0)"\n'
        'for word; do case "$word" in *.tmp-*) target=$word;; esac; done\n'
        f'cp "{model}" "$target"\n'
    )
    (place / "llama-quantize").write_text(script)
    (place / "llama-quantize").chmod(0o755)
    name = "registry.example.com/team/m:1"
    words = ("package", model, name, "--quantize", "Q4_K_M", *ALL, "--json")

    value = json.loads(done(cli, *words, PATH=f"{place}:{cli.environ['PATH']}"))

    found = contents(cli, value)
    built = json.loads(found[TYPES[2]])["predicate"]["buildDefinition"]
    (step,) = built["externalParameters"]["steps"]
    assert step["option"] == "Q4_K_M"
    assert step["tool"] == "llama-quantize 4711 (abcdef0)"
    before = hashlib.sha256(model.read_bytes()).hexdigest()
    assert built["resolvedDependencies"] == [{"digest": {"sha256": before}}]
    assert str(tmp_path) not in found[TYPES[2]].decode()
    assert spdx_faults(json.loads(found[TYPES[0]])) == []
    assert cyclonedx_faults(json.loads(found[TYPES[1]])) == []
