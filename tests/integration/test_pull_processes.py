"""Pulls as whole processes: interrupted, killed, two at once, on a small disk."""

import json
import random
import re
import signal
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest

from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact
from tests.support.docker_registry import needs_skopeo, skopeo_copy
from tests.support.mounts import small_disk as mounted
from tests.support.registry import Registry, sha256

MIB = 1024 * 1024
WEIGHTS = b"GGUF" + random.Random(4).randbytes(20 * MIB)[4:]
MODEL = docker_artifact(WEIGHTS, license=b"do as you like")
NAME = "ai/big:1"


@pytest.fixture
def registry():
    with Registry() as registry:
        registry.add(MODEL, "ai/big", tags=["1"])
        yield registry


@contextmanager
def pulling(cli, registry, *options, **environ):
    """`modelrunner pull`, running."""
    with subprocess.Popen(
        cli.argv("pull", registry.reference(NAME), *options),
        env={**cli.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_bytes(registry, count, seconds=100):
    deadline = time.monotonic() + seconds
    while registry.bytes_sent(sha256(WEIGHTS)) < count:
        assert time.monotonic() < deadline, registry.bytes_sent()
        time.sleep(0.01)


def assert_stored(cli):
    (model,) = cli.store.models()
    assert str(model.digest) == MODEL.digest
    for digest, content in MODEL.blobs.items():
        path = cli.store.layout.blobs / digest.removeprefix("sha256:")
        assert path.read_bytes() == content
    assert [path.name for path in cli.store.layout.ingest.glob("*.*")] == []


def test_pull_says_what_it_did(cli, registry):
    done = cli("pull", registry.reference(NAME), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "pulled"
    assert result["digest"] == MODEL.digest
    assert result["downloaded_bytes"] == MODEL.size
    assert_stored(cli)


def test_two_processes_fetch_each_byte_once(cli, registry):
    registry.slow(20 * MIB)
    # an answer that is left early has sent more than was taken: one connection leaves none
    alone = ("--connections", "1")
    with pulling(cli, registry, *alone) as first, pulling(cli, registry, *alone) as second:
        ends = [process.wait(60) for process in (first, second)]
        said = first.stderr.read() + second.stderr.read()
    assert ends == [0, 0], said
    assert_stored(cli)
    assert registry.bytes_sent() == MODEL.size


def test_interrupted_pull_says_what_is_kept_and_the_next_one_goes_on(cli, registry):
    registry.slow(4 * MIB)
    with pulling(cli, registry) as process:
        wait_for_bytes(registry, 12 * MIB)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        said = process.stderr.read()
    assert "Traceback" not in said
    kept = re.search(r"interrupted; ([0-9.]+) MiB kept", said)
    assert kept, said
    assert 0 < float(kept[1]) < 19
    assert cli.store.models() == ()
    registry.calm()
    registry.forget()

    done = cli("pull", registry.reference(NAME), "--connections", "1", "--json")

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["resumed_bytes"] > 0
    assert result["resumed_bytes"] + result["downloaded_bytes"] == MODEL.size - len(MODEL.config)
    assert registry.bytes_sent() == result["downloaded_bytes"]
    assert result["resumed_bytes"] / MIB == pytest.approx(float(kept[1]), abs=0.2)
    assert_stored(cli)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_pull_tells_programs_what_is_kept(cli, registry, number):
    registry.slow(4 * MIB)
    with pulling(cli, registry, "--json") as process:
        wait_for_bytes(registry, 12 * MIB)
        process.send_signal(number)
        code = process.wait(60)
        said = json.loads(process.stderr.read())["error"]
    assert code == (130 if number == signal.SIGINT else 128 + number)
    assert 0 < said["kept_bytes"] < MODEL.size
    assert said["code"] == "interrupted"
    assert said["message"].startswith("interrupted; ")
    assert said["hint"] == "run the same command to resume"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("moment", ["standing still", "flowing"])
def test_signal_ends_a_pull_that_could_take_minutes(cli, registry, number, moment):
    if moment == "standing still":
        fault = registry.stall_after(1000, 600, times=None, on="blob")
    else:
        registry.slow(MIB // 4)
    with pulling(cli, registry) as process:
        if moment == "standing still":
            fault.wait(20)
        else:
            wait_for_bytes(registry, MIB // 4)
        process.send_signal(number)
        code = process.wait(60)
        said = process.stderr.read()
    assert code == (130 if number == signal.SIGINT else 128 + number), said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.timeout(180)
@needs_skopeo
@pytest.mark.registry
def test_pull_that_is_killed_fifty_times_gets_there(cli, registry, tmp_path):
    """At most a piece a connection is fetched again each time, and the result is right."""
    registry.slow(2.5 * MIB)
    chance = random.Random(50)
    kills = 0
    for _kill in range(50):
        with pulling(cli, registry, "-q", "--connections", "1") as process:
            try:
                process.wait(0.3 + chance.random() * 0.6)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
        assert process.returncode in {0, -signal.SIGKILL}, process.returncode
    assert kills >= 10
    registry.calm()

    done = cli("pull", registry.reference(NAME))

    assert done.returncode == 0, done.stderr
    assert_stored(cli)
    assert cli("verify", "--deep").returncode == 0
    source = f"oci:{cli.store.layout.root}:{registry.reference(NAME)}"
    skopeo_copy(source, f"dir:{tmp_path / 'copy'}")
    manifest = (tmp_path / "copy" / "manifest.json").read_bytes()
    assert sha256(manifest) == MODEL.digest


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MiB."""
    with mounted(tmp_path / "disk", "16m") as folder:
        yield folder


def test_disk_that_is_too_small_is_told_before_the_first_byte(cli, registry, small_disk):
    home = str(small_disk / "home")

    done = cli("pull", registry.reference(NAME), "--json", MODELRUNNER_HOME=home)

    assert done.returncode == 7
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["code"] == "disk_full"
    assert error["needed_bytes"] == MODEL.size
    assert 0 < error["free_bytes"] <= 16 * MIB
    assert "MiB" in error["message"]
    assert registry.count("GET", "blobs") == 0


def test_disk_that_fills_up_meanwhile_keeps_what_came(cli, registry, small_disk):
    content = WEIGHTS[: 6 * MIB]
    model = docker_artifact(content)
    registry.add(model, "ai/big", tags=["1"])
    registry.slow(2 * MIB)
    home = str(small_disk / "home")
    with pulling(cli, registry, MODELRUNNER_HOME=home) as process:
        deadline = time.monotonic() + 100
        while registry.bytes_sent(sha256(content)) < 2 * MIB:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with (small_disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        assert process.wait(30) == 7, process.stderr.read()
        said = process.stderr.read()
    assert "Traceback" not in said
    store = Store(small_disk / "home" / "store")
    assert store.models() == ()
    (small_disk / "ballast").unlink()
    registry.calm()

    done = cli("pull", registry.reference(NAME), "--json", MODELRUNNER_HOME=home)

    assert done.returncode == 0, done.stderr
    assert store.models()[0].weights().read_bytes() == content


def test_home_that_may_not_be_written_is_told(cli, registry, tmp_path):
    (tmp_path / "file").write_text("")
    done = cli("pull", registry.reference(NAME), MODELRUNNER_HOME=str(tmp_path / "file" / "x"))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert registry.count("GET", "blobs") == 0


@pytest.mark.parametrize("stdout", ["closed", "full"])
def test_terminal_that_is_gone_takes_no_model(cli, registry, stdout):
    registry.slow(20 * MIB)
    command = f'exec "$@" {">&-" if stdout == "closed" else ">/dev/full"}'
    argv = ["sh", "-c", command, "sh", *cli.argv("pull", registry.reference(NAME))]
    done = subprocess.run(
        argv, env=cli.environ, check=False, capture_output=True, timeout=60, text=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert_stored(cli)
