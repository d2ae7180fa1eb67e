"""`modelrunner copy`, as a user runs it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.docker_registry import docker_registry, needs_docker_registry, push_artifact
from tests.support.registry import Registry
from tests.support.signing import Signer, bundle
from tests.support.waiting import wait_until


@pytest.fixture
def target() -> Iterator[Registry]:
    with Registry() as made:
        yield made


def test_a_copy_is_one_line(
    cli: CommandLine, registry: Registry, target: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/m", ["1"])
    name = target.reference("ai/m:1")
    done = cli("copy", registry.reference("team/m:1"), name, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{name}: {tiny.digest} (11.12 KiB copied, 0 B skipped)\n"
    again = cli("copy", registry.reference("team/m:1"), name)
    assert again.stdout == f"{name}: {tiny.digest} (0 B copied, 11.12 KiB skipped)\n"
    assert cli("pull", name).returncode == 0


def test_progress_and_result_for_programs(
    cli: CommandLine, registry: Registry, target: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/m", ["1"])
    registry.add(bundle(Signer.make(), tiny), "team/m")
    source, name = registry.reference("team/m:1"), target.reference("ai/m:1")
    done = cli("copy", source, name, "--tag", "new", "--json", "--progress", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "source": source,
        "destination": name,
        "digest": tiny.digest,
        "status": "copied",
        "size_bytes": tiny.size,
        "copied_bytes": tiny.size,
        "mounted_bytes": 0,
        "skipped_bytes": 0,
        "manifests": 1,
        "tags": [name, target.reference("ai/m:new")],
        "referrers": {"copied": 1, "problems": []},
    }
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events.count("verified") == len(tiny.blobs)
    assert events[-1] == "finished"


def test_several_tags_are_reported_and_the_worst_decides(
    cli: CommandLine, registry: Registry, target: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/m", ["1"])
    broken = docker_artifact(b"GGUF" + bytes(1000))
    registry.add(broken, "team/m", ["2"])
    registry.corrupt(broken.layer_digests[0], times=None)
    words = ["copy", "--all-tags", registry.reference("team/m"), target.reference("ai/m")]
    done = cli(*words, "--quiet")
    assert done.returncode == 6
    one, two = target.reference("ai/m:1"), registry.reference("team/m:2")
    assert done.stdout == f"{one}: {tiny.digest} (11.12 KiB copied, 0 B skipped)\n"
    assert done.stderr.startswith(f"error: {two}@{broken.digest}: blob ")
    told = cli(*words, "--json")
    assert (told.returncode, told.stdout) == (6, "")
    error = json.loads(told.stderr)["error"]
    assert error["failed"] == [registry.reference("team/m:2")]
    assert [row["status"] for row in error["results"]] == ["present", "failed"]
    assert target.tags("ai/m") == {"1": tiny.digest}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ai/m", "ai/n", "--match", "x"], "--match needs --all-tags"),
        (
            ["ai/m", "ai/n", "--all-tags", "--tag", "x"],
            "--tag and --all-tags cannot be combined",
        ),
        (["ai/m", "ai/n", "--referrers", "some"], "invalid choice of referrers: 'some'"),
        (["ai/m", "hf.co/a/b"], "hf.co/a/b:latest: the Hugging Face Hub is not an OCI registry"),
    ],
)
def test_what_makes_no_sense_is_said(cli: CommandLine, words: list[str], said: str) -> None:
    done = cli("copy", *words, "--quiet")
    assert done.returncode in {2, 10}
    assert done.stderr.startswith(f"error: {said}\nhint: ")


def test_policy_keeps_unsigned_models_from_being_copied(
    cli: CommandLine, registry: Registry, target: Registry, tiny: Artifact, tmp_path: Path
) -> None:
    registry.add(tiny, "team/m", ["1"])
    signer = Signer.make()
    cli.home.mkdir(parents=True)
    key = signer.publish(tmp_path / "team.pub")
    (cli.home / "verify.toml").write_text(
        f'version = 1\n[[rule]]\nmatch = "*"\nmode = "enforce"\nkeys = ["{key}"]\n'
    )
    words = ["copy", registry.reference("team/m:1"), target.reference("ai/m:1")]
    refused = cli(*words)
    assert refused.returncode == 6
    assert "not signed" in refused.stderr
    assert registry.count("GET", "blob") == 0
    assert target.tags("ai/m") == {}
    registry.add(bundle(signer, tiny), "team/m")
    assert cli(*words).returncode == 0
    assert target.tags("ai/m") == {"1": tiny.digest}


def test_a_copy_that_is_interrupted_ends_at_once_and_names_nothing(
    cli: CommandLine, registry: Registry, target: Registry
) -> None:
    large = docker_artifact(b"GGUF" + bytes(8 * 1024 * 1024))
    registry.add(large, "team/m", ["1"])
    registry.stall_after(1024 * 1024, 60, digest=large.layer_digests[0])
    words = ["copy", registry.reference("team/m:1"), target.reference("ai/m:1")]
    with subprocess.Popen(
        cli.argv(*words, "--progress", "none"),
        env=dict(cli.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        wait_until(lambda: registry.bytes_sent() > 1024 * 1024, 60)
        running.send_signal(signal.SIGINT)
        out, said = running.communicate(timeout=60)
    assert (running.returncode, out, said) == (130, b"", b"")
    assert target.tags("ai/m") == {}


@needs_docker_registry
@pytest.mark.registry
def test_memory_does_not_grow_with_what_is_copied(cli: CommandLine, tmp_path: Path) -> None:
    large = docker_artifact(b"GGUF" + bytes(300 * 1024 * 1024))
    with docker_registry(tmp_path / "a") as one, docker_registry(tmp_path / "b") as two:
        push_artifact(one, large, "team/m", ["1"])
        words = ["copy", one.reference("team/m:1"), two.reference("ai/m:1"), "--quiet"]
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, *words],
            env=dict(cli.environ),
            check=True,
            capture_output=True,
            timeout=300,
        )
    (most,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stderr.decode())
    assert int(most) <= 100 * 1024


_MEASURED = """
import sys
from modelrunner.__main__ import main
try:
    main()
finally:
    sys.stderr.write(open("/proc/self/status").read())
"""
