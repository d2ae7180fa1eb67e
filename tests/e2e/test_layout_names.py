"""oras and regctl address models in what `save`, `copy` and `mirror sync` write, by a tag."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact, image_artifact
from tests.support.docker_registry import docker_registry, needs_docker_registry
from tests.support.registry import Registry
from tests.support.signing import Signer, bundle

PEERS = Path(os.environ.get("MODELRUNNER_PEERS") or Path.home() / ".cache/modelrunner-peers")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not all((PEERS / name).exists() for name in ("oras", "regctl")),
        reason="needs oras and regctl: .ci/peers builds them",
    ),
]


def done(cli: CommandLine, *words: str) -> str:
    found = cli(*words)
    assert found.returncode == 0, found.stderr
    return found.stdout


def peer(name: str, home: Path, *words: str) -> str:
    found = subprocess.run(
        [PEERS / name, *words], check=False, capture_output=True, text=True, env={"HOME": str(home)}
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@needs_docker_registry
def test_a_model_is_found_by_its_tag(
    cli: CommandLine, registry: Registry, tiny: Artifact, tmp_path: Path
) -> None:
    other = docker_artifact(b"GGUF of another model")
    registry.add(tiny, "team/m", ["1"])
    registry.add(bundle(Signer.make(), tiny), "team/m", [])
    registry.add(other, "team/other", ["1"])
    one, two = registry.reference("team/m:1"), registry.reference("team/other:1")
    for name in (one, two):
        done(cli, "pull", name)
    saved, synced = tmp_path / "saved.tar", tmp_path / "synced.tar"
    (tmp_path / "list").write_text(f"{one}\n{two}\n")
    done(cli, "save", one, two, "-o", str(saved))
    done(cli, "copy", one, f"dir:{tmp_path / 'copied'}")
    done(cli, "copy", two, f"dir:{tmp_path / 'copied'}")
    done(cli, "mirror", "sync", str(tmp_path / "list"), "--to", f"archive:{synced}")
    for path in (saved, synced):
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path / path.stem, filter="data")
    tags = {name: name.replace("/", "_").replace(":", "_") for name in (one, two)}
    store = Path(cli.environ["MODELRUNNER_HOME"]) / "store/v1"
    with docker_registry(tmp_path / "registry") as away:
        for folder in ("saved", "copied", "synced"):
            layout = tmp_path / folder
            for name, artifact in ((one, tiny), (two, other)):
                found = peer(
                    "regctl", tmp_path, "image", "digest", f"ocidir://{layout}:{tags[name]}"
                )
                assert found.strip() == artifact.digest
                raw = ("manifest", "get", "--format", "raw-body", f"ocidir://{layout}:{tags[name]}")
                assert peer("regctl", tmp_path, *raw).encode() == artifact.manifest
                target = away.reference(f"{folder}:{tags[name].rpartition('_team_')[2]}")
                source = ("cp", "--from-oci-layout", f"{layout}:{tags[name]}")
                peer("oras", tmp_path, *source, "--to-plain-http", target)
                peer("oras", tmp_path, "manifest", "fetch", "--plain-http", target)
                local = f"{store}:{tags[name]}"
                assert peer("regctl", tmp_path, *raw[:-1], f"ocidir://{local}") == peer(
                    "oras", tmp_path, "manifest", "fetch", "--oci-layout", local
                )
            # and each of them is loaded as before, under its full names alone
            done(cli, "rm", "--all", "--yes")
            done(cli, "load", str(layout))
            known = json.loads(done(cli, "list", "--json"))
            assert sorted(name for row in known for name in row["references"]) == sorted(tags)
        config = away.reference("by/regctl:1")
        peer("regctl", tmp_path, "registry", "set", "--tls", "disabled", away.host)
        words = ("image", "import", config, str(saved), "--name", tags[one])
        peer("regctl", tmp_path, *words)


def test_an_image_is_inspected_by_its_tag(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    image = image_artifact(oci=True)
    registry.add(image, "team/image", ["1"])
    name = registry.reference("team/image:1")

    done(cli, "copy", name, f"dir:{tmp_path / 'layout'}")

    tag = name.replace("/", "_").replace(":", "_")
    found = peer("regctl", tmp_path, "image", "inspect", f"ocidir://{tmp_path / 'layout'}:{tag}")
    assert json.loads(found) == json.loads(image.config)
