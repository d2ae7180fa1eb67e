"""What refers to a model goes along, or stays, as `--referrers` says."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.docker_registry import DockerRegistry, docker_registry, needs_docker_registry
from tests.support.registry import Registry
from tests.support.signing import Signer, bundle, signature_artifact

Machine = Callable[[str], CommandLine]
CHOICES = {"all": ["SBOM", "signature"], "signatures": ["signature"], "none": []}


@pytest.fixture
def machine(cli: CommandLine, tmp_path: Path) -> Machine:
    """Other machines, each with a home of its own."""

    def at(name: str) -> CommandLine:
        home = tmp_path / name
        return replace(cli, home=home, environ={**cli.environ, "MODELRUNNER_HOME": str(home)})

    return at


@pytest.fixture
def name(cli: CommandLine, registry: Registry, tiny: Artifact) -> str:
    """A model of the store with a signature and an SBOM."""
    registry.add(tiny, "team/m", ["1"])
    registry.add(bundle(Signer.make(), tiny), "team/m", [])
    registry.add(signature_artifact(b"{}", "application/spdx+json", tiny), "team/m", [])
    found = registry.reference("team/m:1")
    done(cli, "pull", found, "--referrers", "all")
    return found


@pytest.fixture
def away(tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "registry") as running:
        yield running


def done(cli: CommandLine, *words: str) -> str:
    found = cli(*words)
    assert found.returncode == 0, found.stderr
    assert "warning" not in found.stderr
    return found.stdout


def kinds(cli: CommandLine, name: str, *words: str) -> list[str]:
    found = json.loads(done(cli, "discover", name, "--json", *words))
    return sorted(entry["kind"] for entry in found["referrers"])


@needs_docker_registry
@pytest.mark.parametrize("choice", list(CHOICES))
def test_a_registry_gets_what_was_chosen(
    cli: CommandLine, machine: Machine, name: str, away: DockerRegistry, tmp_path: Path, choice: str
) -> None:
    pushed, copied = away.reference("pushed/m:1"), away.reference("copied/m:1")
    done(cli, "tag", name, pushed)
    (tmp_path / "list").write_text(f"{name}\n")

    done(cli, "push", pushed, "--referrers", choice)
    done(cli, "copy", name, copied, "--referrers", choice)
    mirror = f"{away.host}/mirror"
    done(cli, "mirror", "sync", str(tmp_path / "list"), "--to", mirror, "--referrers", choice)

    other = machine("other")
    for found in (pushed, copied, f"{mirror}/team/m:1"):
        assert kinds(other, found) == CHOICES[choice], found
        digest = json.loads(done(other, "discover", found, "--json"))["digest"]
        tag = digest.replace(":", "-")
        tags = json.loads(done(other, "tags", found.rpartition(":")[0], "--json"))["tags"]
        assert (tag in tags) is (choice != "none")


@pytest.mark.parametrize("choice", list(CHOICES))
def test_an_archive_has_what_was_chosen(
    cli: CommandLine, machine: Machine, name: str, tmp_path: Path, choice: str
) -> None:
    saved, copied = tmp_path / "saved.tar", tmp_path / "copied.tar"
    done(cli, "save", name, "-o", str(saved), "--referrers", choice)
    done(cli, "copy", name, f"archive:{copied}", "--referrers", choice)

    for path in (saved, copied):
        loader = machine(path.stem)
        done(loader, "load", str(path))
        assert kinds(loader, name, "--offline") == CHOICES[choice], path


def test_all_is_what_goes_along_without_the_option(
    cli: CommandLine, name: str, tmp_path: Path
) -> None:
    usual, everything = tmp_path / "usual.tar", tmp_path / "all.tar"
    done(cli, "save", name, "-o", str(usual))
    done(cli, "save", name, "-o", str(everything), "--referrers", "all")

    assert usual.read_bytes() == everything.read_bytes()


def test_an_unknown_choice_is_refused(cli: CommandLine, name: str, tmp_path: Path) -> None:
    for words in (("push", name), ("save", name, "-o", str(tmp_path / "m.tar"))):
        found = cli(*words, "--referrers", "some")
        assert found.returncode == 2
        assert found.stderr == (
            "error: invalid choice of referrers: 'some'\nhint: use one of all, signatures, none\n"
        )
    image = cli("push", name, "--as", "image", "--referrers", "none")
    assert image.returncode == 2
    assert "--referrers cannot be combined with --as image" in image.stderr
