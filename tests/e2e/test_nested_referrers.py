"""What refers to something attached to a model: a signature of an SBOM goes wherever that goes."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from modelrunner.share.server import sharing
from modelrunner.store.store import Store
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, index_artifact
from tests.support.docker_registry import DockerRegistry, docker_registry, needs_docker_registry
from tests.support.registry import Registry
from tests.support.signing import Signer, bundle, signature_artifact, simple_signature

PEERS = Path(os.environ.get("MODELRUNNER_PEERS") or Path.home() / ".cache/modelrunner-peers")
ORAS = PEERS / "oras"
REGCTL = PEERS / "regctl"
needs_regctl = pytest.mark.skipif(not REGCTL.exists(), reason="needs regctl: .ci/peers builds it")
needs_oras = pytest.mark.skipif(not ORAS.exists(), reason="needs oras: .ci/peers builds it")
Machine = Callable[[str], CommandLine]
SPDX = "application/spdx+json"
TREE = [("SBOM", [("signature", [("license", [])])]), ("signature", [])]
"""A signed model with a signed SBOM, and a license of that signature."""


@pytest.fixture
def machine(cli: CommandLine, tmp_path: Path) -> Machine:
    """Other machines, each with a home of its own."""

    def at(name: str) -> CommandLine:
        home = tmp_path / name
        return replace(cli, home=home, environ={**cli.environ, "MODELRUNNER_HOME": str(home)})

    return at


@pytest.fixture
def away(tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def signer() -> Signer:
    return Signer.make()


@pytest.fixture
def name(registry: Registry, tiny: Artifact, signer: Signer) -> str:
    """A model in its registry with the tree."""
    registry.add(tiny, "team/m", ["1"])
    sbom = signature_artifact(b"{}", SPDX, tiny)
    signature = bundle(signer, sbom)
    for each in (
        bundle(signer, tiny),
        sbom,
        signature,
        signature_artifact(b"free", "application/vnd.example.license", signature),
    ):
        registry.add(each, "team/m", [])
    return registry.reference("team/m:1")


def done(cli: CommandLine, *words: str, **environ: str) -> str:
    found = cli(*words, **environ)
    assert found.returncode == 0, found.stderr
    assert "warning" not in found.stderr
    return found.stdout


def tree(cli: CommandLine, name: str, *words: str, **environ: str) -> list[Any]:
    found = json.loads(done(cli, "discover", name, "--json", *words, **environ))
    return shape(found["referrers"])


def shape(found: list[dict[str, Any]]) -> list[Any]:
    return sorted((each["kind"], shape(each["referrers"])) for each in found)


@needs_docker_registry
def test_the_tree_goes_all_the_way(
    machine: Machine, registry: Registry, name: str, away: DockerRegistry, tmp_path: Path
) -> None:
    owner, loader, last = machine("owner"), machine("loader"), machine("last")
    assert tree(owner, name) == TREE
    pulled = json.loads(done(owner, "pull", name, "--referrers", "all", "--json"))
    assert pulled["referrers"]["kept"] == 4
    pushed, copied = away.reference("pushed/m:1"), away.reference("copied/m:1")
    done(owner, "tag", name, pushed)
    assert json.loads(done(owner, "push", pushed, "--json"))["referrers"]["pushed"] == 4
    # a registry without the referrers API has a list for each thing that something refers to
    assert tree(machine("other"), pushed) == TREE
    done(owner, "copy", name, copied)
    assert tree(machine("other"), copied) == TREE
    # and what it has is pulled, saved, loaded and shared
    done(last, "pull", copied, "--referrers", "all")
    for number, words in enumerate(
        (("save", copied, "-o"), ("copy", f"store:{copied}"), ("copy", copied))
    ):
        path = str(tmp_path / f"{number}.tar")
        done(last, *words, path if words[0] == "save" else f"archive:{path}")
        each = machine(f"loader{number}")
        done(each, "load", path)
        assert tree(each, copied, "--offline") == TREE, words
    done(loader, "load", str(tmp_path / "0.tar"))
    done(loader, "tag", copied, "ghcr.io/copies/m:1")
    with sharing(Store(loader.home / "store")) as server:
        shared = f"{server.address.removeprefix('http://')}/ghcr.io/copies/m:1"
        assert tree(machine("guest"), shared) == TREE
    assert json.loads(done(loader, "verify", "--deep", "--json"))
    for known in json.loads(done(loader, "list", "--json")):
        done(loader, "rm", *known["references"])
    done(loader, "prune")
    assert list((loader.home / "store/v1/blobs/sha256").iterdir()) == []


def test_a_tree_is_shown_as_one(cli: CommandLine, registry: Registry, name: str) -> None:
    lines = done(cli, "discover", name).splitlines()

    kinds = [line[: lines[0].index("TYPE")].rstrip() for line in lines[1:]]
    at = kinds.index("SBOM")
    assert kinds[at : at + 3] == ["SBOM", "└ signature", "└── license"]
    assert sorted(kinds) == ["SBOM", "signature", "└ signature", "└── license"]
    flat = done(cli, "discover", name, "--type", "signature", "--quiet").splitlines()
    assert len(flat) == 2
    assert len(done(cli, "discover", name, "--quiet").splitlines()) == 4


def test_what_refers_to_a_manifest_of_an_index_is_shown_with_it(
    cli: CommandLine, registry: Registry, tiny: Artifact, signer: Signer
) -> None:
    index = index_artifact(tiny)
    registry.add(index, "team/m", ["1"])
    registry.add(bundle(signer, tiny), "team/m", [])
    name = registry.reference("team/m:1")

    value = json.loads(done(cli, "discover", name, "--json"))
    lines = done(cli, "discover", name).splitlines()

    assert value["referrers"] == []
    ((manifest),) = value["manifests"]
    assert manifest["digest"] == tiny.digest
    assert shape(manifest["referrers"]) == [("signature", [])]
    assert [line.split("  ")[0] for line in lines] == ["KIND", "manifest", "└ signature"]


def test_where_nothing_is_attached_that_is_said(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/m", ["1"])
    name = registry.reference("team/m:1")

    found, typed = cli("discover", name), cli("discover", name, "--type", "sbom")

    assert (found.stdout, found.stderr) == ("", f"nothing refers to {name}\n")
    assert (typed.stdout, typed.stderr) == ("", f"nothing of type sbom refers to {name}\n")


def test_signatures_alone_are_those_of_the_model(
    cli: CommandLine, registry: Registry, name: str
) -> None:
    done(cli, "pull", name)

    assert tree(cli, name, "--offline") == [("signature", [])]


def test_what_is_kept_with_a_model_is_signed_and_verified_without_a_network(
    cli: CommandLine,
    machine: Machine,
    registry: Registry,
    tiny: Artifact,
    signer: Signer,
    tmp_path: Path,
) -> None:
    registry.add(tiny, "team/m", ["1"])
    name = registry.reference("team/m:1")
    done(cli, "pull", name)
    registry.close()
    sbom, key = tmp_path / "m.spdx.json", tmp_path / "key.pem"
    sbom.write_text('{"spdxVersion": "SPDX-2.3"}')
    key.write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    value = json.loads(done(cli, "attach", name, str(sbom), "--type", "spdx", "--json"))
    digest = value["referrer"]["digest"]

    named = f"{name.removesuffix(':1')}@{digest}"
    value = json.loads(done(cli, "sign", named, "--key", str(key), "--json"))
    assert (value["stored"], value["digest"]) == (True, digest)
    done(cli, "sign", digest, "--key", str(key))

    found = [("SBOM", [("signature", []), ("signature", [])])]
    assert tree(cli, name, "--offline") == found
    assert tree(cli, named, "--offline") == found[0][1]
    done(cli, "save", name, "-o", str(tmp_path / "m.tar"))
    other = machine("other")
    done(other, "load", str(tmp_path / "m.tar"))
    assert tree(other, name, "--offline") == found
    done(other, "trust", "add", "*", "--key", str(signer.publish(tmp_path / "team.pub")))
    assert done(other, "trust", "test", named, "--offline").endswith(
        "passes: signed by a trusted signer\n"
    )
    # the SBOM is signed, and the model is not
    assert other("trust", "test", name, "--offline").returncode == 6
    missing = other("sign", f"{name.removesuffix(':1')}@sha256:{'0' * 64}", "--key", str(key))
    assert missing.returncode == 3


def test_tags_that_claim_a_circle_are_followed_once(
    cli: CommandLine, registry: Registry, tiny: Artifact, signer: Signer
) -> None:
    registry.add(tiny, "team/m", ["1"])
    first = simple_signature(signer, tiny.digest)
    # it is said to be its own signature, and that of the model
    tags = [each.digest.replace(":", "-") + ".sig" for each in (tiny, first)]
    registry.add(first, "team/m", tags)
    name = registry.reference("team/m:1")

    done(cli, "pull", name, "--referrers", "all")

    assert tree(cli, name) == [("signature", [("signature", [])])]
    asked = [request.target for request in registry.requests_of("GET", "manifests")]
    assert len(asked) < 30


def test_a_model_that_is_tagged_as_its_own_list_of_parts_is_asked_about_once(
    cli: CommandLine, registry: Registry, tiny: Artifact, signer: Signer
) -> None:
    tag = tiny.digest.replace(":", "-")
    registry.add(tiny, "team/m", ["1", f"{tag}.sbom"])
    registry.add(bundle(signer, tiny), "team/m", [])
    name = registry.reference("team/m:1")

    pulled = cli("pull", name, "--referrers", "all")
    with Registry() as other:
        copied = done(cli, "copy", name, other.reference("team/m:1"))
    shown = tree(cli, name)

    assert ": 2 referrers (" in pulled.stderr
    assert ", 2 referrers)" in copied
    assert len(shown) == 2


def test_a_chain_is_followed_three_steps(
    cli: CommandLine, registry: Registry, tiny: Artifact, tmp_path: Path
) -> None:
    registry.add(tiny, "team/m", ["1"])
    last = tiny
    for number in range(6):
        last = signature_artifact(str(number).encode(), "application/vnd.example.license", last)
        registry.add(last, "team/m", [])
    name = registry.reference("team/m:1")
    three = [("license", [("license", [("license", [])])])]

    assert tree(cli, name) == three
    done(cli, "pull", name, "--referrers", "all")
    assert tree(cli, name, "--offline") == three
    done(cli, "copy", name, f"archive:{tmp_path / 'm.tar'}")
    done(cli, "rm", name)
    done(cli, "load", str(tmp_path / "m.tar"))
    assert tree(cli, name, "--offline") == three


def test_many_things_are_not_all_asked_what_refers_to_them(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/m", ["1"])
    for number in range(40):
        each = signature_artifact(str(number).encode(), "application/vnd.example.license", tiny)
        registry.add(each, "team/m", [])
    name = registry.reference("team/m:1")

    found = cli("discover", name, "--json")
    value = json.loads(found.stdout)
    pulled = cli("pull", name, "--referrers", "all", "--json")

    assert len(value["referrers"]) == 40
    assert value["problems"] == [
        f"{registry.host}: only 32 referrers were asked what refers to them"
    ]
    kept = json.loads(pulled.stdout)["referrers"]
    assert (kept["kept"], kept["left_out"]) == (
        40,
        "only 32 referrers were asked what refers to them",
    )


@needs_docker_registry
def test_what_was_attached_is_signed_where_it_is(
    cli: CommandLine,
    machine: Machine,
    tiny: Artifact,
    away: DockerRegistry,
    tmp_path: Path,
    registry: Registry,
    signer: Signer,
) -> None:
    registry.add(tiny, "team/m", ["1"])
    source, name = registry.reference("team/m:1"), away.reference("team/m:1")
    done(cli, "copy", source, name)
    sbom = tmp_path / "m.spdx.json"
    sbom.write_text('{"spdxVersion": "SPDX-2.3"}')
    key = tmp_path / "key.pem"
    key.write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    value = json.loads(done(cli, "attach", name, str(sbom), "--type", "spdx", "--push", "--json"))
    digest = value["referrer"]["digest"]

    done(cli, "sign", f"{name.removesuffix(':1')}@{digest}", "--key", str(key), "--push")

    assert tree(cli, name) == [("SBOM", [("signature", [])])]


@pytest.mark.real
@needs_oras
@needs_docker_registry
def test_oras_sees_the_tree_and_its_backup_loads(
    cli: CommandLine, machine: Machine, name: str, away: DockerRegistry, tmp_path: Path
) -> None:
    pushed = away.reference("pushed/m:1")
    done(cli, "pull", name, "--referrers", "all")
    done(cli, "tag", name, pushed)
    done(cli, "push", pushed)

    found = oras("discover", "--plain-http", "--format", "json", pushed)
    value = json.loads(found)
    types = {
        each["artifactType"]: [inner["artifactType"] for inner in each.get("referrers") or []]
        for each in value["referrers"]
    }
    assert types[SPDX] == ["application/vnd.dev.sigstore.bundle.v0.3+json"]
    oras("cp", "-r", "--from-plain-http", pushed, "--to-oci-layout", f"{tmp_path / 'layout'}:1")
    loader = machine("loader")
    done(loader, "load", str(tmp_path / "layout"), "--name", pushed)
    assert tree(loader, pushed, "--offline") == TREE


@pytest.mark.real
@needs_regctl
@needs_docker_registry
def test_a_layout_of_regctl_is_loaded_with_the_tree(
    cli: CommandLine, machine: Machine, name: str, away: DockerRegistry, tmp_path: Path
) -> None:
    pushed = away.reference("pushed/m:1")
    done(cli, "pull", name, "--referrers", "all")
    done(cli, "tag", name, pushed)
    done(cli, "push", pushed)
    home = str(tmp_path / "regctl")
    peer(REGCTL, "registry", "set", "--tls", "disabled", away.host, home=home)

    peer(REGCTL, "image", "copy", "--referrers", pushed, f"ocidir://{tmp_path}/dir:1", home=home)

    loader = machine("loader")
    done(loader, "load", str(tmp_path / "dir"), "--name", pushed)
    assert tree(loader, pushed, "--offline") == TREE


def oras(*words: str) -> str:
    return peer(ORAS, *words)


def peer(program: Path, *words: str, home: str = "/nonexistent") -> str:
    found = subprocess.run(
        [program, *words],
        check=False,
        capture_output=True,
        text=True,
        env={"HOME": home},
    )
    assert found.returncode == 0, found.stderr
    return found.stdout
