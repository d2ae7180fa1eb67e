"""`pull --locked` and `--frozen`: by digest, silent where all is here, exact in their errors."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modelrunner.oci.digest import Digest
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.mounts import read_only
from tests.support.registry import Registry

NETWORK = {"requests", "urllib3", "http.client", "ssl", "socket", "oras", "docker", "asyncio"}
CUT_OFF = f"""
import os, sys

def refuse(event, arguments):
    if event.startswith("socket."):
        os.write(2, f"a socket: {{event}}".encode())
        os._exit(77)

sys.addaudithook(refuse)
from modelrunner.cli.app import main

code = main(sys.argv[1:])
loaded = sorted({NETWORK!r} & set(sys.modules))
sys.exit(f"loaded: {{loaded}}" if loaded else code)
"""
Lock = Callable[..., None]


@pytest.fixture
def lock(project: Path, registry: Registry, cli: CommandLine) -> Lock:
    """Publishes models by name, wants them all and locks them."""

    def publish(more: str = "", **models: Artifact) -> None:
        lines = []
        for name, artifact in models.items():
            registry.add(artifact, f"team/{name}", ["1"])
            lines.append(f'{name} = "{registry.host}/team/{name}:1"\n')
        (project / "modelrunner.toml").write_text("[models]\n" + "".join(lines) + more)
        done = cli("lock")
        assert done.returncode == 0, done.stderr
        registry.requests.clear()

    return publish


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Artifact, Artifact]:
    """Two models that share nothing."""
    one, two = (tiny_gguf(tmp_path / f"{seed}.gguf", seed=seed) for seed in (1, 2))
    return (
        docker_artifact(one.read_bytes(), license=b"one"),
        docker_artifact(two.read_bytes(), license=b"two", config={"parameters": "2B"}),
    )


def cut_off(cli: CommandLine, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command that ends with 77 at its first socket, and with 1 if it loads what has one."""
    return subprocess.run(
        [sys.executable, "-c", CUT_OFF, *arguments],
        env={**cli.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_locked_pull_asks_for_digests_only(
    cli: CommandLine, registry: Registry, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0], b=pair[1])
    done = cli("pull", "--locked", "--json")
    assert done.returncode == 0, done.stderr
    assert [
        (entry["name"], entry["reference"], entry["status"]) for entry in json.loads(done.stdout)
    ] == [
        ("a", registry.reference("team/a:1"), "pulled"),
        ("b", registry.reference("team/b:1"), "pulled"),
    ]
    assert registry.requests != []
    named = {request.path.rpartition("/")[2] for request in registry.requests} - {""}
    # by a tag made of a digest signatures may refer to that
    assert all(name.startswith(("sha256:", "sha256-")) for name in named), named
    # and under the names of the lock, so that other commands find them
    names = [entry["references"] for entry in json.loads(cli("list", "--json").stdout)]
    assert sorted(names) == [[registry.reference(f"team/{name}:1")] for name in "ab"]
    assert Path(cli("path", registry.reference("team/a:1")).stdout.strip()).exists()


def test_a_tag_that_has_moved_does_not_matter(
    cli: CommandLine, registry: Registry, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0])
    registry.add(pair[1], "team/a", ["1"])
    assert cli("pull", registry.reference("team/a:1")).returncode == 0
    done = cli("pull", "--locked", "--json")
    assert [entry["digest"] for entry in json.loads(done.stdout)] == [pair[0].digest]
    # the name is what the lock says
    assert cli.store.resolve(registry.reference("team/a:1")).digest == Digest.parse(pair[0].digest)


@pytest.mark.parametrize(
    "arguments", [["--locked"], ["--frozen"], ["--locked", "--json"], ["-q", "--frozen"]]
)
def test_where_all_is_here_there_is_no_socket_and_no_library_that_has_one(
    cli: CommandLine,
    registry: Registry,
    lock: Lock,
    pair: tuple[Artifact, Artifact],
    arguments: list[str],
) -> None:
    lock(a=pair[0], b=pair[1])
    assert cli("pull", "--locked").returncode == 0
    registry.requests.clear()
    done = cut_off(cli, "pull", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= 2
    assert registry.requests == []


@pytest.mark.parametrize(
    "arguments", [["lock", "--check"], ["lock"], ["cache-key"], ["prune", "--keep-locked"]]
)
def test_no_command_about_a_lock_that_is_right_needs_a_network(
    cli: CommandLine, lock: Lock, pair: tuple[Artifact, Artifact], arguments: list[str]
) -> None:
    lock(a=pair[0])
    done = cut_off(cli, *arguments)
    assert "a socket" not in done.stderr
    # 1 is what the program ends with that found a network library, and so does one that crashed
    assert done.returncode == 0 or "loaded: [" in done.stderr, done.stderr


def test_a_registry_that_is_gone_is_not_missed(
    cli: CommandLine, lock: Lock, registry: Registry, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0])
    cli("pull", "--locked")
    environ = {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "MODELRUNNER_MIRRORS": "docker.io=http://127.0.0.1:9",
    }
    done = cli("pull", "--locked", **environ)
    assert done.returncode == 0
    assert "up to date" in done.stdout


def test_a_lock_that_does_not_satisfy_fetches_nothing(
    cli: CommandLine, registry: Registry, lock: Lock, project: Path, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0])
    intent = project / "modelrunner.toml"
    intent.write_text(intent.read_text().replace("team/a:1", "team/a:2"))
    for mode in ("--locked", "--frozen"):
        done = cli("pull", mode)
        assert (done.returncode, done.stdout) == (9, "")
        assert "modelrunner.lock does not satisfy modelrunner.toml: a is locked as" in done.stderr
    (project / "modelrunner.lock").unlink()
    done = cli("pull", "--locked")
    assert (done.returncode, "run `modelrunner lock`" in done.stderr) == (9, True)
    assert registry.requests == []


def test_frozen_names_what_is_missing(
    cli: CommandLine, registry: Registry, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0], b=pair[1])
    for arguments in (["--frozen"], ["--locked", "--offline"]):
        done = cli("pull", *arguments)
        assert (done.returncode, done.stdout) == (9, "")
        assert done.stderr.startswith("error: locked, but not in the local store: a (")
        assert done.stderr.endswith("\nhint: run `modelrunner pull --locked`\n")
    cli("pull", "--locked")
    registry.requests.clear()
    digest = Digest.of(b"two")
    cli.store.layout.blob(digest).unlink()
    done = cli("pull", "--frozen", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"], error["missing"], error["message"]) == (
        9,
        "not_in_store",
        [f"b {digest}"],
        "locked, but not in the local store: b (LICENSE, 3 B)",
    )
    assert error["file"] == "modelrunner.lock"
    assert registry.requests == []


def test_of_half_a_restored_cache_only_what_is_missing_is_fetched(
    cli: CommandLine, registry: Registry, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0], b=pair[1])
    cli("pull", "--locked")
    weights = Digest.parse(pair[1].layer_digests[0])
    cli.store.layout.blob(weights).unlink()
    # restored without times, without stamps, without views
    for folder in (cli.store.layout.stamps, cli.store.layout.views):
        shutil.rmtree(folder)
    for blob in cli.store.layout.blobs.iterdir():
        os.utime(blob, (1, 1))
    registry.requests.clear()
    done = cli("pull", "--locked", "--json")
    assert [entry["status"] for entry in json.loads(done.stdout)] == ["up-to-date", "pulled"]
    assert {request.path.rpartition("/")[2] for request in registry.requests_of("GET", "blob")} == {
        str(weights)
    }
    assert cut_off(cli, "pull", "--frozen").returncode == 0


def test_a_damaged_blob_is_fetched_again(
    cli: CommandLine, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0])
    cli("pull", "--locked")
    blob = cli.store.layout.blob(Digest.parse(pair[0].layer_digests[0]))
    content = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(content[:-1] + b"?")
    assert cli("pull", "--frozen").returncode == 9
    assert cli("pull", "--locked").returncode == 0
    assert blob.read_bytes() == content


def test_an_index_that_is_lost_is_made_of_the_lock(
    cli: CommandLine, registry: Registry, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0])
    cli("pull", "--locked")
    cli.store.layout.index.unlink()
    assert cut_off(cli, "pull", "--frozen").returncode == 0
    assert cli.store.resolve(registry.reference("team/a:1")).digest == Digest.parse(pair[0].digest)


def test_content_that_is_gone_is_told_with_what_to_do(
    cli: CommandLine, registry: Registry, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0], b=pair[1])
    del registry.storage.repositories["team/a"].manifests[pair[0].digest]
    done = cli("pull", "--locked", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["model"], error["file"], error["line"]) == (
        3,
        "a",
        "modelrunner.lock",
        4,
    )
    assert "`modelrunner lock --update a`" in error["hint"]
    # the other one has come
    assert cli("pull", "--frozen", "b").returncode == 0
    done = cli("pull", "--locked")
    assert (done.returncode, "`modelrunner lock --update a`" in done.stderr) == (3, True)


def test_names_take_some_of_the_models(
    cli: CommandLine, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0], b=pair[1])
    done = cli("pull", "--locked", "b", "--json")
    assert [entry["name"] for entry in json.loads(done.stdout)] == ["b"]
    assert len(cli.store.models()) == 1
    done = cli("pull", "--locked", "c")
    assert (done.returncode, "modelrunner.toml: no model 'c'" in done.stderr) == (2, True)


def test_a_lock_whose_blobs_were_edited_is_refused(
    cli: CommandLine, lock: Lock, project: Path, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0])
    path = project / "modelrunner.lock"
    good = path.read_text()
    cli("pull", "--locked")
    edits = {
        str(Digest.of(b"one")): str(Digest.of(b"two")),
        "size = 3,": "size = 4,",
        "vnd.docker.ai.license": "vnd.docker.ai.mmproj",
    }
    for old, new in edits.items():
        assert good.count(old) == 1
        path.write_text(good.replace(old, new))
        for mode in ("--frozen", "--locked"):
            done = cli("pull", mode)
            assert (done.returncode, done.stdout) == (9, "")
            assert done.stderr.startswith(
                "error: modelrunner.lock:4: the blobs of a differ between the lock and the manifest"
            )
            assert "`modelrunner lock --update a`" in done.stderr
    assert cli("lock", "--update", "a").returncode == 0
    assert path.read_text() == good


def test_an_edit_is_met_after_a_fetch_too(
    cli: CommandLine, lock: Lock, project: Path, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0])
    path = project / "modelrunner.lock"
    path.write_text(path.read_text().replace("size = 3,", "size = 4,"))
    done = cli("pull", "--locked")
    assert (done.returncode, "differ between the lock and the manifest" in done.stderr) == (9, True)


def test_two_jobs_on_one_cache_both_end_well(
    cli: CommandLine, registry: Registry, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0], b=pair[1])
    jobs = [
        subprocess.Popen(
            cli.argv("pull", "--locked", "-q"),
            env={**cli.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for job in jobs:
        out, err = job.communicate(timeout=60)
        assert (job.returncode, len(out.splitlines())) == (0, 2), err
    names = sorted(str(name) for model in cli.store.models() for name in model.references)
    assert names == [registry.reference(f"team/{name}:1") for name in "ab"]


def test_a_cache_that_is_read_only_will_do(
    cli: CommandLine, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0])
    cli("pull", "--locked")
    with read_only(cli.home):
        for arguments in (["--frozen"], ["--locked"], ["--frozen", "--json"]):
            done = cut_off(cli, "pull", *arguments)
            assert (done.returncode, done.stderr.count("warning")) == (0, 0), done.stderr


def test_a_name_that_a_read_only_cache_lacks_is_told_and_no_failure(
    cli: CommandLine, registry: Registry, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(a=pair[0])
    cli("pull", "--locked")
    cli("tag", registry.reference("team/a:1"), "other/name:1")
    cli("rm", registry.reference("team/a:1"))
    with read_only(cli.home):
        done = cut_off(cli, "pull", "--frozen")
    assert done.returncode == 0
    assert f"cannot add the name {registry.host}/team/a:1 to the local store" in done.stderr


def test_the_output_of_the_intent_gets_the_files(
    cli: CommandLine, registry: Registry, lock: Lock, project: Path, pair: tuple[Artifact, Artifact]
) -> None:
    registry.add(pair[1], "team/c", ["1"])
    more = f'[models.c]\nref = "{registry.host}/team/c:1"\noutput = "models/c"\n'
    lock(more, a=pair[0])
    done = cli("pull", "--locked")
    assert done.returncode == 0, done.stderr
    assert (project / "models" / "c" / "model.gguf").read_bytes() == pair[1].layers[0]
    assert not (project / "models" / "a").exists()
    assert cut_off(cli, "pull", "--frozen").returncode == 0


def test_two_names_for_one_content_are_fetched_once(
    cli: CommandLine, registry: Registry, lock: Lock, pair: tuple[Artifact, Artifact]
) -> None:
    lock(f'z = "{registry.host}/team/a:1"\n', a=pair[0])
    done = cli("pull", "--locked", "--json")
    assert [entry["name"] for entry in json.loads(done.stdout)] == ["a", "z"]
    assert registry.count("GET", "blobs") == len(pair[0].blobs)
