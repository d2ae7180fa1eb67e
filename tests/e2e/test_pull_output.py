"""`pull --output`: real names, checksums, once; and what may not be written says so."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.mounts import sharing_disk, small_disk
from tests.support.registry import Registry


@pytest.fixture
def name(registry: Registry, tiny: Artifact) -> str:
    registry.add(tiny, "team/tiny", ["1", "2"])
    registry.add(tiny, "team/other", ["1"])
    return registry.reference("team/tiny:1")


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("options", [(), ("--link",), ("--copy",)])
def test_one_model_lies_in_the_folder_itself(
    cli: CommandLine, name: str, tiny: Artifact, tmp_path: Path, options: tuple[str, ...]
) -> None:
    folder = tmp_path / "out"
    done = json.loads(cli("pull", name, "--output", str(folder), *options, "--json").stdout)
    assert done["output"] == str(folder / "model.gguf")
    assert done["path"].startswith(str(cli.home))
    assert Path(done["output"]).read_bytes() == tiny.layers[0]
    assert tree(folder) == ["LICENSE", "SHA256SUMS", "model.gguf"]
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())]
    assert cli("pull", name, "--output", str(folder), *options).returncode == 0
    assert before == [
        (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())
    ]


def test_blocks_are_shared_where_the_file_system_can(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    weights = tiny_gguf(tmp_path / "large.gguf").read_bytes() + os.urandom(16 * 1024 * 1024)
    registry.add(docker_artifact(weights), "team/large", ["1"])
    name = registry.reference("team/large:1")
    with sharing_disk(tmp_path / "disk") as disk:
        home = {"MODELRUNNER_HOME": str(disk / "home")}
        assert cli("pull", name, **home).returncode == 0
        before = os.statvfs(disk).f_bfree
        done = cli("pull", name, "--output", str(disk / "out"), "--copy", "--json", **home)
        told = json.loads(done.stdout)
        after = os.statvfs(disk)
        assert (before - after.f_bfree) * after.f_frsize < 4 * 1024 * 1024
        out = Path(told["output"])
        assert not os.path.samestat(out.stat(), Path(told["path"]).stat())
        out.write_bytes(b"something else")
        assert Path(told["path"]).read_bytes() == weights


def test_several_models_have_a_folder_each(cli: CommandLine, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    other = name.replace("tiny", "other")
    cli("pull", name, other, f"{name[:-1]}2", "--output", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["other", "tiny-1", "tiny-2"]
    assert tree(folder / "other") == ["LICENSE", "SHA256SUMS", "model.gguf"]


def test_a_lock_has_a_folder_for_each_name_or_where_the_project_says(
    cli: CommandLine, name: str, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    intent = project / "modelrunner.toml"
    other = name.replace("tiny", "other")
    intent.write_text(
        f'[models]\nchat = "{name}"\n[models.embed]\nref = "{other}"\noutput = "files/embed"\n'
    )
    assert cli("lock", "--file", str(intent)).returncode == 0
    found = json.loads(cli("pull", "--locked", "--file", str(intent), "--json").stdout)
    assert [(entry["name"], entry.get("output")) for entry in found] == [
        ("chat", None),
        ("embed", str(project / "files" / "embed" / "model.gguf")),
    ]
    out = tmp_path / "out"
    done = cli("pull", "--frozen", "--file", str(intent), "--output", str(out), "--copy", "-q")
    assert done.stdout.splitlines() == [
        str(out / "chat" / "model.gguf"),
        str(out / "embed" / "model.gguf"),
    ]


def test_a_quiet_pull_prints_where_the_weights_were_put(
    cli: CommandLine, name: str, tmp_path: Path
) -> None:
    done = cli("pull", "-q", name, "--output", str(tmp_path / "out"))
    assert done.stdout == f"{tmp_path / 'out' / 'model.gguf'}\n"


def test_a_file_of_somebody_else_stays(cli: CommandLine, name: str, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("mine")
    done = cli("pull", name, "--output", str(tmp_path), "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--force" in json.loads(done.stderr)["error"]["hint"]
    assert (tmp_path / "model.gguf").read_text() == "mine"
    assert cli("pull", name, "--output", str(tmp_path), "--force").returncode == 0
    assert (tmp_path / "model.gguf").read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize(
    "options",
    [
        ("--link",),
        ("--copy",),
        ("--force",),
        ("--file", "x.toml"),
        ("--output", "/tmp/x", "--link", "--copy"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(
    cli: CommandLine, registry: Registry, name: str, options: tuple[str, ...]
) -> None:
    done = cli("pull", name, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert registry.requests == []


def test_a_folder_that_cannot_be_is_a_usage_error(cli: CommandLine, name: str) -> None:
    done = cli("pull", name, "--output", "/proc/out")
    assert (done.returncode, done.stdout) == (2, "")
    assert "hint: choose another directory\n" in done.stderr


def test_a_full_disk_is_a_capacity_error_and_leaves_nothing_half(
    cli: CommandLine, name: str, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "8k") as small:
        done = cli("pull", name, "--output", str(small), "--json")
        assert (done.returncode, done.stdout) == (7, "")
        assert json.loads(done.stderr)["error"]["code"] == "disk_full"
        assert tree(small) == []
        linked = cli("pull", name, "--output", str(small), "--link", "--json")
        assert linked.returncode == 2
        assert "leave out --link" in json.loads(linked.stderr)["error"]["hint"]
