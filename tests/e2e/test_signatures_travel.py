"""A signature verifies wherever its model has gone: pushed, saved, loaded, shared, mirrored."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.share.server import sharing
from modelrunner.store.store import Store
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.docker_registry import docker_registry, needs_docker_registry
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry
from tests.support.signing import Signer, bundle, message_bundle, simple_signature

Machine = Callable[[str], CommandLine]
FORMS: dict[str, Callable[[Signer, Artifact], tuple[Artifact, str | None]]] = {
    "a bundle": lambda signer, model: (bundle(signer, model), None),
    "a bundle of the manifest": lambda signer, model: (message_bundle(signer, model), None),
    "a tagged signature": lambda signer, model: (simple_signature(signer, model.digest), ".sig"),
}


@pytest.fixture
def machine(cli: CommandLine, tmp_path: Path) -> Machine:
    """Other machines, each with a home of its own."""

    def at(name: str) -> CommandLine:
        home = tmp_path / name
        return replace(cli, home=home, environ={**cli.environ, "MODELRUNNER_HOME": str(home)})

    return at


@pytest.fixture
def signer() -> Signer:
    return Signer.make()


@pytest.fixture(params=list(FORMS))
def origin(
    request: pytest.FixtureRequest, registry: Registry, signer: Signer, tmp_path: Path
) -> str:
    """The name of a model that is signed where it comes from."""
    model = docker_artifact(tiny_gguf(tmp_path / "m.gguf").read_bytes())
    registry.add(model, "team/m", ["1"])
    signature, suffix = FORMS[request.param](signer, model)
    tag = model.digest.replace(":", "-") + (suffix or "")
    registry.add(signature, "team/m", [tag] if suffix else [])
    return registry.reference("team/m:1")


def enforce(machine: CommandLine, key: Path) -> None:
    """Only what this key has signed may be used, wherever it comes from."""
    machine.home.mkdir(parents=True, exist_ok=True)
    (machine.home / "verify.toml").write_text(
        f'version = 1\n[[rule]]\nmatch = "*"\nmode = "enforce"\nkeys = ["{key}"]\n'
    )


def done(machine: CommandLine, *words: str, **environ: str) -> str:
    found = machine(*words, **environ)
    assert found.returncode == 0, found.stderr
    assert "warning" not in found.stderr
    return found.stdout


@needs_docker_registry
def test_a_signature_goes_all_the_way(
    machine: Machine, registry: Registry, origin: str, signer: Signer, tmp_path: Path
) -> None:
    key = signer.publish(tmp_path / "team.pub")
    stranger = Signer.make().publish(tmp_path / "stranger.pub")
    publisher, archivist, loader = (machine(name) for name in ("publisher", "archivist", "loader"))
    done(publisher, "pull", origin)
    with docker_registry(tmp_path / "registry") as away:
        # pushed to a registry without the referrers API, and pulled from there
        copy = away.reference("copies/m:1")
        done(publisher, "tag", origin, copy)
        pushed = json.loads(done(publisher, "push", copy, "--json"))
        assert pushed["referrers"] == {"pushed": 1, "problems": []}
        enforce(archivist, key)
        done(archivist, "pull", copy)
    # both registries are out of reach from now on
    registry.close()
    done(archivist, "save", copy, "-o", str(tmp_path / "m.tar"))
    (loaded,) = json.loads(done(loader, "load", str(tmp_path / "m.tar"), "--json"))
    assert loaded["referrers"] == 1
    enforce(loader, key)
    done(loader, "pull", copy, "--offline")
    done(loader, "tag", copy, "ghcr.io/copies/m:1")
    with sharing(Store(loader.home / "store")) as server:
        # by a name at the shared store, and with the shared store as a mirror
        by_name = f"{server.address.removeprefix('http://')}/ghcr.io/copies/m:1"
        mirrors = {"MODELRUNNER_MIRRORS": f"{away.host}={server.address}"}
        for number, name in enumerate((by_name, copy)):
            guest, suspicious = machine(f"guest{number}"), machine(f"suspicious{number}")
            enforce(guest, key)
            done(guest, "pull", name, **mirrors)
            # who trusts somebody else gets nothing
            enforce(suspicious, stranger)
            assert suspicious("pull", name, **mirrors).returncode in {5, 6}
            assert json.loads(suspicious("list", "--json").stdout) == []
    enforce(loader, stranger)
    assert loader("pull", copy, "--offline").returncode == 6
    told = json.loads(done(loader, "inspect", "--security", copy, "--offline", "--key", str(key)))
    assert [entry["verified"] for entry in told["signatures"]] == [True]
