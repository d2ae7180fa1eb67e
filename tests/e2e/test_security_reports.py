"""Who has signed a model and what is attached to it: seen before its weights are downloaded."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.registry import Registry
from tests.support.signing import Signer, attestation, bundle, signature_artifact


@pytest.fixture
def signer() -> Signer:
    return Signer.make()


@pytest.fixture
def name(registry: Registry, tiny: Artifact, signer: Signer) -> str:
    """A model in its registry, with a signature, an attestation and an SBOM."""
    registry.add(tiny, "team/m", ["1"])
    registry.add(bundle(signer, tiny), "team/m", [])
    registry.add(attestation(signer, tiny.digest), "team/m", [tag(tiny) + ".att"])
    spdx = signature_artifact(b"{}", "application/spdx+json", tiny)
    registry.add(spdx, "team/m", [])
    return registry.reference("team/m:1")


def tag(model: Artifact) -> str:
    return model.digest.replace(":", "-")


def done(cli: CommandLine, *words: str) -> str:
    found = cli(*words)
    assert found.returncode == 0, found.stderr
    return found.stdout


def trust(cli: CommandLine, key: Path) -> None:
    cli.home.mkdir(parents=True, exist_ok=True)
    rule = f'[[rule]]\nmatch = "*"\nmode = "warn"\nkeys = ["{key}"]\n'
    (cli.home / "verify.toml").write_text(f"version = 1\n{rule}")


def test_an_inspection_asks_each_registry_once(
    cli: CommandLine, registry: Registry, name: str, signer: Signer, tmp_path: Path, tiny: Artifact
) -> None:
    key = str(signer.publish(tmp_path / "team.pub"))

    value = json.loads(done(cli, "inspect", "--remote", "--security", name, "--key", key))

    assert [entry["verified"] for entry in value["signatures"]] == [True]
    assert [entry["verified"] for entry in value["attestations"]] == [True]
    assert sorted(entry["kind"] for entry in value["referrers"]) == [
        "SBOM",
        "attestation",
        "signature",
    ]
    asked = Counter((request.method, request.target) for request in registry.requests)
    about = [f"referrers/{tiny.digest}", *(tag(tiny) + end for end in (".sig", ".att", ".sbom"))]
    for target in about:
        assert [n for (_, each), n in asked.items() if each.endswith(target)] == [1], target
    assert (
        max(n for (_, each), n in asked.items() if "sha256:" in each and tiny.digest not in each)
        == 1
    )


def test_an_estimate_says_who_has_signed_where_it_is_asked_to(
    cli: CommandLine, registry: Registry, name: str, signer: Signer, tmp_path: Path
) -> None:
    trust(cli, signer.publish(tmp_path / "team.pub"))

    text = done(cli, "estimate", name, "--security")
    value = json.loads(done(cli, "estimate", name, "--security", "--json"))

    by = value["security"]["signatures"][0]["by"]
    assert by.endswith(" (team.pub)")
    host = registry.host
    assert text.splitlines()[-6:] == [
        f"signed by {by}",
        f"attested by {by}",
        "policy: warn for *: satisfied",
        *(line.replace("HOST", host) for line in attached(value)),
    ]
    assert value["security"]["policy"] == {"match": "*", "mode": "warn", "satisfied": True}
    assert value["referrers"] is None


def attached(value: dict[str, dict[str, list[dict[str, object]]]]) -> list[str]:
    sizes = {each["kind"]: each["size_bytes"] for each in value["security"]["referrers"]}
    shown = {
        kind: f"{size / 1024:.2f} KiB" if isinstance(size, int) and size >= 1024 else f"{size} B"
        for kind, size in sizes.items()
    }
    return [f"attached: {kind}, {size}, in HOST" for kind, size in shown.items()]


def test_an_estimate_of_a_stored_model_says_what_is_kept_and_asks_nobody(
    cli: CommandLine, registry: Registry, name: str
) -> None:
    done(cli, "pull", name, "--referrers", "all")
    registry.requests.clear()

    text = done(cli, "estimate", name)
    value = json.loads(done(cli, "estimate", name, "--json"))

    said = text.splitlines()[-1]
    assert said.endswith("; --security says who has signed it")
    assert sorted(said.removeprefix("attached: ").partition(";")[0].split(", ")) == [
        "SBOM",
        "attestation",
        "signature",
    ]
    assert sorted(entry["kind"] for entry in value["referrers"]) == [
        "SBOM",
        "attestation",
        "signature",
    ]
    assert "security" not in value
    assert registry.requests == []


def test_without_a_model_there_is_nobody_who_could_have_signed_it(
    cli: CommandLine, tmp_path: Path, smollm2_gguf: Path
) -> None:
    found = cli("estimate", str(smollm2_gguf), "--security")
    both = cli("estimate", "ai/qwen3", "--security", "--variants")

    assert (found.returncode, both.returncode) == (2, 2)
    assert "--security needs a model in the local store or in a registry" in found.stderr
    assert "--security and --variants cannot be combined" in both.stderr


def test_an_unsigned_model_is_said_to_be_unsigned(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/m", ["1"])
    name = registry.reference("team/m:1")

    assert done(cli, "estimate", name, "--security").splitlines()[-1] == "not signed"
    done(cli, "pull", name)
    offline = done(cli, "estimate", name, "--security", "--offline").splitlines()
    assert offline[-2:] == ["no signature found", "note: not checked: --offline is set"]
