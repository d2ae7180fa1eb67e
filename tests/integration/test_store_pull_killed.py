"""kill -9 in the middle of `modelrunner pull`: the store works, and the next pull goes on."""

import json
import random
import shutil
import subprocess

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.store.sweep import leftovers
from tests.support.artifacts import docker_artifact
from tests.support.registry import Registry
from tests.support.waiting import wait_until

MIB = 1024 * 1024


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_pull_killed_again_and_again_leaves_a_working_store_and_is_finished_by_the_next(
    cli, tmp_path
):
    weights = b"GGUF" + random.Random(3).randbytes(64 * MIB)[4:]
    chance, artifact = random.Random(11), docker_artifact(weights, license=b"free")
    with Registry() as registry:
        registry.add(artifact, "ai/m", tags=["1"])
        name = registry.reference("ai/m:1")
        registry.slow(16 * MIB)
        for _ in range(8):
            enough = registry.bytes_sent() + chance.randrange(2 * MIB, 7 * MIB)
            with subprocess.Popen(
                cli.argv("pull", name, "--progress", "none"),
                env=cli.environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as pull:
                wait_until(lambda: registry.bytes_sent() > enough, 60)  # noqa: B023 - at once
                pull.kill()
            listed = cli("list", "-q")
            assert (listed.returncode, listed.stderr) == (0, "")
        registry.calm()
        done = cli("pull", name, "--json")
        assert done.returncode == 0, done.stderr
    pulled = json.loads(done.stdout)
    # pieces that were finished before a kill are not fetched again
    assert pulled["resumed_bytes"] > 4 * MIB
    model = cli.store.resolve(name)
    assert str(model.digest) == artifact.digest
    assert all(cli.store.blobs.deep_state(entry) == "good" for entry in model.manifest.blobs)
    assert leftovers(cli.store, partials=True) == ()
    if shutil.which("skopeo"):
        source = f"oci:{cli.store.layout.root}:{model.references[0]}"
        command = ["skopeo", "copy", "--insecure-policy", source, f"dir:{tmp_path / 'copy'}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        copied = (tmp_path / "copy" / "manifest.json").read_bytes()
        assert Digest.of(copied) == model.digest


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_pull_of_small_files_that_is_killed_fetches_little_again(cli):
    chance = random.Random(12)
    files = {f"{number}.bin": chance.randbytes(2 * MIB) for number in range(30)}
    artifact = docker_artifact(b"GGUF small", extra_files=files)
    kills = 3
    with Registry() as registry:
        registry.add(artifact, "ai/m", tags=["1"])
        name = registry.reference("ai/m:1")
        for _ in range(kills):
            enough = registry.bytes_sent() + chance.randrange(5 * MIB, 15 * MIB)
            with subprocess.Popen(
                cli.argv("pull", name, "--progress", "none"),
                env=cli.environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as pull:
                wait_until(lambda: registry.bytes_sent() > enough or pull.poll() is not None, 60)  # noqa: B023 - at once
                pull.kill()
        done = cli("pull", name, "--json")
        assert done.returncode == 0, done.stderr
        assert registry.bytes_sent() <= artifact.size + kills * 16 * MIB
    model = cli.store.resolve(name)
    assert str(model.digest) == artifact.digest
    assert all(cli.store.blobs.deep_state(entry) == "good" for entry in model.manifest.blobs)
    assert leftovers(cli.store, partials=True) == ()
