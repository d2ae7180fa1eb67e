"""Whatever a file system says: the command works, or ends in a sentence and the right exit code."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.artifacts import docker_artifact
from tests.support.faults.calls import always, build
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry

# a library that makes calls fail is compiled
pytestmark = pytest.mark.real

MISSING_LOCKS = (
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EBADF,
    errno.EINVAL,
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tiny_gguf(tmp_path_factory.mktemp("weights") / "big.gguf")
    return file.read_bytes() + os.urandom(200_000)


@pytest.fixture(scope="module")
def registry(weights):
    with Registry() as running:
        running.add(docker_artifact(weights, license=b"free"), "ai/big", tags=["1"])
        yield running


@pytest.fixture
def home(cli, registry, tmp_path):
    """A home with one model."""
    file = tiny_gguf(tmp_path / "tiny.gguf")
    assert cli("package", str(file), "local/tiny:1").returncode == 0
    return cli.home


def failing(cli, library, *arguments, calls, error):
    return cli(*arguments, **always(library, cli.home, error, *calls))


@pytest.mark.parametrize("error", MISSING_LOCKS, ids=errno.errorcode.get)
def test_without_flock_the_locks_of_linux_serve(cli, library, registry, error):
    arguments = ("pull", registry.reference("ai/big:1"), "--json")
    done = failing(cli, library, *arguments, calls=["flock"], error=error)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["status"] == "pulled"


@pytest.mark.parametrize("error", MISSING_LOCKS, ids=errno.errorcode.get)
def test_without_any_locks_a_pull_works_and_says_so_once(cli, library, registry, error):
    missing = {"calls": ["flock", "lock"], "error": error}
    name = registry.reference("ai/big:1")
    done = failing(cli, library, "pull", name, "--progress", "none", **missing)
    assert done.returncode == 0
    assert done.stderr.count("warning:") == 1
    assert (
        "warning: the file system of the store does not support file locks: run one "
        "modelrunner command at a time, or set MODELRUNNER_HOME to a directory on another "
        "file system\n" in done.stderr
    )
    assert failing(cli, library, "rm", name, "--quiet", **missing).returncode == 0
    assert cli("list", "-q").stdout == ""


def test_a_lock_that_fails_is_told(cli, library, home):
    arguments = ("tag", "local/tiny:1", "local/other:1", "--json")
    done = failing(cli, library, *arguments, calls=["flock"], error=errno.EIO)
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"]) == (2, "store_access")
    assert error["message"].endswith("input/output error")
    assert error["hint"].startswith("check the file system, the disk and its connection")


WORKS = [
    ("fsync", errno.EINVAL),
    ("fsync", errno.ENOSYS),
    ("fsync", errno.EOPNOTSUPP),
    ("chmod", errno.EPERM),
    ("chmod", errno.EOPNOTSUPP),
    ("utime", errno.EPERM),
    ("link", errno.EPERM),
    ("link", errno.EMLINK),
    ("link", errno.EOPNOTSUPP),
    ("statvfs", errno.ENOSYS),
]


@pytest.mark.parametrize(("call", "error"), WORKS)
def test_a_file_system_that_lacks_something_does(cli, library, registry, weights, call, error):
    name = registry.reference("ai/big:1")
    missing = {"calls": [call], "error": error}
    done = failing(cli, library, "pull", name, "--json", **missing)
    assert (done.returncode, done.stderr) == (0, "")
    path = failing(cli, library, "path", name, **missing)
    assert path.returncode == 0
    assert Path(path.stdout.strip()).read_bytes() == weights
    assert cli("verify", "--deep").returncode == 0


CODES = {2: ("store_access", "invalid_configuration"), 7: ("disk_full",)}
ENDS = [
    ("ftruncate", errno.EFBIG, 7),
    ("ftruncate", errno.ENOSPC, 7),
    ("ftruncate", errno.EIO, 2),
    ("write", errno.EDQUOT, 7),
    ("write", errno.ENOSPC, 7),
    ("write", errno.EFBIG, 7),
    ("write", errno.EIO, 2),
    ("fsync", errno.EIO, 2),
    ("rename", errno.EIO, 2),
    ("unlink", errno.EIO, 2),
    ("mkdir", errno.ENOSPC, 7),
    ("mkdir", errno.EIO, 2),
    ("create", errno.EROFS, 2),
    ("create", errno.EMFILE, 2),
    ("open", errno.EIO, 2),
]


@pytest.mark.parametrize(("call", "error", "code"), ENDS)
def test_a_pull_ends_in_words_and_goes_on_later(cli, library, registry, home, call, error, code):
    name = registry.reference("ai/big:1")
    shutil.rmtree(home / "store/v1/ingest")
    done = failing(cli, library, "pull", name, "--json", calls=[call], error=error)
    assert done.returncode in (code, 0 if call == "unlink" else code), done.stderr
    if done.returncode:
        assert json.loads(done.stderr)["error"]["code"] in CODES[code]
    assert cli("pull", name, "--quiet").returncode == 0
    assert cli("verify", "--deep").returncode == 0


@pytest.mark.parametrize(
    "call", ["open", "create", "opendir", "read", "rename", "unlink", "flock", "write"]
)
@pytest.mark.parametrize("error", [errno.EIO, errno.EPERM], ids=errno.errorcode.get)
def test_other_commands_end_in_words(cli, library, home, call, error):
    for arguments in (
        ("list",),
        ("path", "local/tiny:1"),
        ("df",),
        ("verify", "--deep"),
        ("tag", "local/tiny:1", "local/other:1"),
        ("prune",),
        ("rm", "local/tiny:1", "--yes"),
    ):
        done = failing(cli, library, *arguments, calls=[call], error=error)
        assert "Traceback" not in done.stderr, arguments
        assert done.returncode in (0, 2, 6, 7), arguments
        assert done.returncode == 0 or "hint: " in done.stderr, arguments


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EMFILE], ids=errno.errorcode.get)
def test_a_blob_that_the_disk_does_not_deliver_is_not_called_damaged(cli, library, home, error):
    weights = cli.store.resolve("local/tiny:1").artifact.weights[0].descriptor
    blob = cli.store.blobs.path(weights.digest)
    out = home.parent / "tiny.tar"
    done = cli(
        *("save", "local/tiny:1", "-o", str(out), "--json"),
        **always(library, blob, error, "open"),
    )
    told = json.loads(done.stderr)["error"]
    assert (done.returncode, told["code"]) == (2, "store_access")
    reason = os.strerror(error)
    assert told["message"] == f"cannot use {blob}: {reason[0].lower()}{reason[1:]}"
    assert sorted(home.parent.glob("*.tar")) == []
    blob.unlink()
    done = cli("save", "local/tiny:1", "-o", str(out), "--json")
    assert (done.returncode, json.loads(done.stderr)["error"]["code"]) == (6, "corrupt_store")


def test_a_picture_that_a_full_disk_does_not_take_is_a_matter_of_capacity(cli, library, home):
    full = always(library, home.parent / "plots", errno.ENOSPC, "write")
    picture = home.parent / "plots" / "plot.svg"
    picture.parent.mkdir()
    done = cli("estimate", "local/tiny:1", "--plot", str(picture), **full)
    assert done.returncode == 7
    assert done.stderr.endswith(
        f"error: --plot: cannot write {picture}: no space left on device\n"
        "hint: free some space on its disk, or write to another one\n"
    )
    assert sorted(picture.parent.iterdir()) == []
