"""An archive is held to the policy by what came along in it, without a network."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.registry import Registry
from tests.support.signing import Signer, bundle, simple_signature

Machine = Callable[[str], CommandLine]


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


@pytest.fixture
def name(registry: Registry, tiny: Artifact) -> str:
    registry.add(tiny, "team/m", ["1"])
    return registry.reference("team/m:1")


def done(cli: CommandLine, *words: str) -> str:
    found = cli(*words)
    assert found.returncode == 0, found.stderr
    return found.stdout


def trust(machine: CommandLine, signer: Signer, tmp_path: Path, mode: str = "enforce") -> None:
    key = signer.publish(tmp_path / "team.pub")
    machine.home.mkdir(parents=True, exist_ok=True)
    (machine.home / "verify.toml").write_text(
        f'version = 1\n[[rule]]\nmatch = "*"\nmode = "{mode}"\nkeys = ["{key}"]\n'
    )


def archive_of(owner: CommandLine, registry: Registry, path: Path, *names: str) -> str:
    """An archive of these models; nobody can ask their registry any more."""
    for name in names:
        done(owner, "pull", name)
    done(owner, "save", *names, "-o", str(path))
    registry.close()
    return str(path)


@pytest.mark.parametrize("form", ["a bundle", "a tagged signature"])
def test_a_signed_model_is_loaded(
    machine: Machine,
    registry: Registry,
    name: str,
    tiny: Artifact,
    signer: Signer,
    tmp_path: Path,
    form: str,
) -> None:
    if form == "a bundle":
        registry.add(bundle(signer, tiny), "team/m", [])
    else:
        tag = tiny.digest.replace(":", "-") + ".sig"
        registry.add(simple_signature(signer, tiny.digest), "team/m", [tag])
    path = archive_of(machine("owner"), registry, tmp_path / "m.tar", name)
    loader, copier = machine("loader"), machine("copier")
    for each in (loader, copier):
        trust(each, signer, tmp_path)

    done(loader, "load", path)
    done(copier, "copy", f"archive:{path}", f"store:{name}")

    for each in (loader, copier):
        done(each, "pull", name, "--offline")
        assert len(json.loads(done(each, "list", "--json"))) == 1


@pytest.mark.parametrize("kind", ["unsigned", "of a stranger", "for another model"])
def test_an_archive_with_a_model_that_is_not_signed_is_refused_as_a_whole(
    machine: Machine,
    registry: Registry,
    name: str,
    tiny: Artifact,
    signer: Signer,
    tmp_path: Path,
    kind: str,
) -> None:
    good = docker_artifact(b"GGUF of another model")
    registry.add(good, "team/good", ["1"])
    registry.add(bundle(signer, good), "team/good", [])
    if kind == "of a stranger":
        registry.add(bundle(Signer.make(), tiny), "team/m", [])
    elif kind == "for another model":
        registry.add(bundle(signer, tiny, digest=good.digest), "team/m", [])
    other = registry.reference("team/good:1")
    path = archive_of(machine("owner"), registry, tmp_path / "m.tar", name, other)
    loader = machine("loader")
    trust(loader, signer, tmp_path)

    found = loader("load", path)
    copied = loader("copy", f"archive:{path}:{name}", f"store:{name}")

    why = {
        "unsigned": "not signed",
        "of a stranger": "no valid signature: signed with another key",
        "for another model": "no valid signature: signed for another model",
    }[kind]
    assert found.returncode == 6
    assert found.stderr.splitlines()[-2:] == [
        f"error: {path}: {name}: {why}",
        (
            "hint: the archive has none that counts: create it again where the model is signed;"
            " verify.toml requires one for *"
        ),
    ]
    assert copied.returncode == 6
    assert f"{name}: {why}" in copied.stderr
    assert json.loads(done(loader, "list", "--json")) == []
    assert not [path for path in loader.home.rglob("blobs/sha256/*") if path.is_file()]


def test_a_warning_loads_it_and_off_says_nothing(
    machine: Machine, registry: Registry, name: str, signer: Signer, tmp_path: Path
) -> None:
    path = archive_of(machine("owner"), registry, tmp_path / "m.tar", name)
    warned, silent = machine("warned"), machine("silent")
    trust(warned, signer, tmp_path, "warn")
    trust(silent, signer, tmp_path, "off")

    found, nothing = warned("load", path), silent("load", path)

    assert (found.returncode, nothing.returncode) == (0, 0)
    assert f"warning: {name}: not signed" in found.stderr
    assert "warning: " not in nothing.stderr


def test_what_the_store_has_of_it_counts_too(
    machine: Machine,
    registry: Registry,
    name: str,
    tiny: Artifact,
    signer: Signer,
    tmp_path: Path,
) -> None:
    loader = machine("loader")
    registry.add(bundle(signer, tiny), "team/m", [])
    done(loader, "pull", name)
    done(loader, "save", name, "-o", str(tmp_path / "bare.tar"), "--referrers", "none")
    registry.close()
    trust(loader, signer, tmp_path)

    done(loader, "load", str(tmp_path / "bare.tar"))
    bare = machine("bare")
    trust(bare, signer, tmp_path)
    assert bare("load", str(tmp_path / "bare.tar")).returncode == 6
