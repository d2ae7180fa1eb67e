"""`save` and `load`, as a user types them: models go where no network is."""

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.mounts import small_disk as mounted
from tests.support.stores import put
from tests.support.waiting import wait_until

NAME = "docker.io/ai/tiny:1"


@pytest.fixture
def here(cli: CommandLine, tiny: Artifact) -> CommandLine:
    """A home with the tiny model."""
    put(cli.store, tiny, NAME, "team/tiny:2")
    return cli


@pytest.fixture
def away(cli: CommandLine, tmp_path: Path) -> CommandLine:
    """Another home, empty."""
    home = tmp_path / "away"
    return CommandLine(home, {**cli.environ, "MODELRUNNER_HOME": str(home)})


def test_a_saved_model_is_loaded_elsewhere_and_works(
    here: CommandLine, away: CommandLine, tiny: Artifact, tmp_path: Path
) -> None:
    file = tmp_path / "models.tar"
    done = here("save", "tiny:1", "team/tiny:2", "-o", str(file))
    size = file.stat().st_size
    assert (done.returncode, done.stdout) == (
        0,
        f"{file}: ai/tiny:1, team/tiny:2 ({size / 1024:.2f} KiB)\n",
    )
    short = tiny.digest.removeprefix("sha256:")[:12]
    loaded = away("load", str(file), "--offline", "-q")
    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert loaded.stdout.splitlines() == [
        f"ai/tiny:1: loaded ({short}, {tiny.size / 1024:.2f} KiB)",
        f"team/tiny:2: loaded ({short}, {tiny.size / 1024:.2f} KiB)",
    ]
    assert Path(away("path", "tiny:1").stdout.rstrip()).read_bytes() == tiny.layers[0]
    assert away("verify", "--deep").returncode == 0


def test_json_says_where_the_archive_is_and_what_is_in_it(
    here: CommandLine, away: CommandLine, tiny: Artifact, tmp_path: Path
) -> None:
    file = tmp_path / "models.tar"
    found = json.loads(here("save", "tiny:1", "-o", str(file), "--json").stdout)
    assert found == {
        "paths": [str(file)],
        "references": [NAME],
        "size_bytes": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    for status in ("loaded", "up-to-date"):
        (one,) = json.loads(away("load", str(file), "--json").stdout)
        assert Path(one.pop("path")).read_bytes() == tiny.layers[0]
        assert one == {
            "references": [NAME],
            "digest": tiny.digest,
            "status": status,
            "size_bytes": tiny.size,
        }


def test_an_archive_goes_through_a_pipe(here: CommandLine, away: CommandLine) -> None:
    saved = subprocess.run(
        here.argv("save", "tiny:1", "-o", "-", "--progress", "plain"),
        env=dict(here.environ),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert saved.stderr.startswith(b"saving ai/tiny:1: ")
    assert away("load", "-", stdin=saved.stdout).returncode == 0
    assert away("load", "-", stdin=saved.stdout[:-11_000]).returncode == 6
    assert away("list", "-q").stdout == here("list", "-q").stdout


def test_split_parts_are_loaded_by_the_first_one_or_all_of_them(
    here: CommandLine, away: CommandLine, tmp_path: Path
) -> None:
    put(here.store, docker_artifact(b"GGUF\3\0\0\0" + os.urandom(150_000)), "ai/larger:1")
    file = str(tmp_path / "m.tar")
    found = json.loads(here("save", "larger:1", "-o", file, "--split", "64KiB", "--json").stdout)
    assert found["paths"] == [f"{file}.{number:03d}" for number in range(3)]
    joined = b"".join(Path(path).read_bytes() for path in found["paths"])
    assert hashlib.sha256(joined).hexdigest() == found["sha256"]
    for named in ([f"{file}.000"], [file], found["paths"]):
        assert away("load", *named).returncode == 0
        assert away("rm", "larger:1").returncode == 0
    assert away("load", *found["paths"][:2]).returncode == 6


def test_an_archive_that_cannot_be_read_is_named_with_the_parts_that_it_lacks(
    here: CommandLine, away: CommandLine, tmp_path: Path
) -> None:
    put(here.store, docker_artifact(b"GGUF\3\0\0\0" + os.urandom(150_000)), "ai/larger:1")
    file = tmp_path / "m.tar"
    here("save", "larger:1", "-o", str(file), "--split", "64KiB")
    text = tmp_path / "notes.txt"
    text.write_text("no archive")

    def said(*names: str) -> list[str]:
        done = away("load", *(str(tmp_path / name) for name in names))
        assert (done.returncode, done.stdout) == (6, "")
        return done.stderr.splitlines()[-2:]

    not_tar = "not a tar archive, or a damaged one"
    cut = "unexpected end of archive; nothing was loaded"
    assert said("notes.txt") == [
        f"error: {text}: {not_tar}",
        "hint: name an archive that `modelrunner save` wrote",
    ]
    assert said("m.tar.001") == [
        f"error: {file}.001: {not_tar}",
        f"hint: load all of its parts: `modelrunner load {file}.000`",
    ]
    assert said("m.tar.000", "m.tar.001") == [
        f"error: {file}.000: {cut}",
        "hint: copy it again: m.tar.002 may be missing",
    ]
    (tmp_path / "m.tar.000").unlink()
    assert said("m.tar.001", "m.tar.002") == [
        f"error: {file}.001: {not_tar}",
        "hint: it may be a part of an archive: copy m.tar.000 into its directory too",
    ]
    stdin = away("load", "-", stdin=b"no archive")
    assert stdin.stderr.splitlines()[-2] == f"error: stdin: {not_tar}"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["save", "tiny:1"], 2),
        (["save", "-o", "x.tar"], 2),
        (["save", "tiny:99", "-o", "x.tar"], 3),
        (["save", "tiny:1", "-o", "no/such/folder/x.tar"], 2),
        (["save", "tiny:1", "-o", "."], 2),
        (["save", "tiny:1", "-o", "x.tar", "--split", "many"], 2),
        (["save", "tiny:1", "-o", "x.tar", "--split", "10"], 2),
        (["save", "tiny:1", "-o", "-", "--split", "1M"], 2),
        (["load", "no-such.tar"], 2),
        (["load", "."], 2),
        (["load", "/dev/null"], 6),
        (["load", sys.executable], 6),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(
    here: CommandLine, tmp_path: Path, words: list[str], code: int
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run(
        [*here.argv(), *words, "--json"],
        cwd=folder,
        env={**here.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (code, b"")
    assert "error" in json.loads(done.stderr.splitlines()[-1])
    assert list(folder.iterdir()) == []


def test_source_date_epoch_is_the_time_in_an_archive(here: CommandLine, tmp_path: Path) -> None:
    one, two = str(tmp_path / "1.tar"), str(tmp_path / "2.tar")
    assert here("save", "tiny:1", "-o", one, SOURCE_DATE_EPOCH="1700000000").returncode == 0
    assert here("save", "tiny:1", "-o", two, SOURCE_DATE_EPOCH="1700000000").returncode == 0
    assert Path(one).read_bytes() == Path(two).read_bytes()
    assert int(Path(one).read_bytes()[136:147], 8) == 1_700_000_000
    assert here("save", "tiny:1", "-o", two, SOURCE_DATE_EPOCH="now").returncode == 2


def test_an_archive_is_not_shown_on_a_terminal(here: CommandLine) -> None:
    master, slave = pty.openpty()
    try:
        for words in (["save", "tiny:1", "-o", "-"], ["load", "-"]):
            done = subprocess.run(
                here.argv(*words),
                env=dict(here.environ),
                stdin=slave,
                stdout=slave,
                stderr=subprocess.PIPE,
                check=False,
                timeout=60,
            )
            assert done.returncode == 2
            assert b"terminal" in done.stderr
    finally:
        os.close(slave)
        os.close(master)


def test_a_damaged_model_is_not_saved(here: CommandLine, tiny: Artifact, tmp_path: Path) -> None:
    blob = here.store.layout.blobs / tiny.layer_digests[0].removeprefix("sha256:")
    before = blob.stat()
    blob.chmod(0o644)
    blob.write_bytes(bytes(before.st_size))
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = here("save", "tiny:1", "-o", str(tmp_path / "x.tar"))
    assert (done.returncode, done.stdout) == (6, "")
    assert tiny.layer_digests[0] in done.stderr
    assert list(tmp_path.glob("*.tar*")) == list(tmp_path.glob(".tmp-*")) == []
    # and the next quick look knows
    assert here("verify").returncode == 6


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 1 MiB."""
    with mounted(tmp_path / "disk", "1m") as folder:
        yield folder


def test_a_disk_that_is_too_small_is_left_as_it_was(
    here: CommandLine, small_disk: Path, tmp_path: Path
) -> None:
    put(here.store, docker_artifact(os.urandom(2_000_000)), "ai/larger:1")
    file = small_disk / "m.tar"
    done = here("save", "larger:1", "-o", str(file), "--json")
    assert (done.returncode, done.stdout) == (7, "")
    assert json.loads(done.stderr.splitlines()[-1])["error"]["code"] == "disk_full"
    assert list(small_disk.iterdir()) == []
    # nor is it filled by what is loaded
    assert here("save", "larger:1", "-o", str(tmp_path / "m.tar")).returncode == 0
    there = replace(here, environ={**here.environ, "MODELRUNNER_HOME": str(small_disk)})
    assert there("load", str(tmp_path / "m.tar")).returncode == 7
    assert there("list", "-q").stdout == ""
    assert list((small_disk / "store" / "v1" / "blobs" / "sha256").iterdir()) == []


def test_a_disk_that_fills_up_on_the_way_is_left_as_it_was(
    here: CommandLine, small_disk: Path
) -> None:
    put(here.store, docker_artifact(os.urandom(700_000)), "ai/larger:1")
    words = ["save", "larger:1", "-o", str(small_disk / "m.tar")]
    program = (
        "import shutil, sys; from types import SimpleNamespace as N;"
        # somebody else takes the room that was seen
        "shutil.disk_usage = lambda _path: N(free=1 << 40);"
        "from modelrunner.cli.app import main; sys.exit(main(sys.argv[1:]))"
    )
    (small_disk / "ballast").write_bytes(bytes(600_000))
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=dict(here.environ),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 7, done.stderr
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_load_that_is_ended_names_nothing_and_the_next_one_does(
    here: CommandLine, away: CommandLine, number: signal.Signals
) -> None:
    saved = subprocess.run(
        here.argv("save", "tiny:1", "-o", "-"),
        env=dict(here.environ),
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    process = subprocess.Popen(
        away.argv("load", "-", "--progress", "json"),
        env=dict(away.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(saved[:-12_000])
    process.stdin.flush()
    assert b"started" in process.stderr.readline()
    # the manifest is in the store by then, and of the weights what has come
    wait_until(lambda: [*away.store.layout.ingest.glob("*.partial")])
    process.send_signal(number)
    process.wait(60)
    process.stdin.close()
    process.stderr.close()
    assert process.returncode != 0
    assert away("list", "-q").stdout == ""
    assert away("load", "-", stdin=saved).returncode == 0
    assert away("verify", "--deep").returncode == 0
    assert json.loads(away("prune", "--json").stdout)["freed_bytes"] == 0
