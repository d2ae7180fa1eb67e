"""Files of others that become blobs: read once, and copied, or shared where that can be."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelrunner.disk.files import temporary_beside
from modelrunner.errors import DigestMismatchError, UsageError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store import adopt
from modelrunner.store.adopt import take
from tests.support.gguf import tiny_gguf

MIB = 1024 * 1024


@pytest.fixture
def file(tmp_path):
    """More bytes than are held in memory at once."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(MIB) * 21 + b"end")
    return path


@pytest.fixture
def no_clones(monkeypatch):
    monkeypatch.setattr(adopt, "share_blocks", lambda _source, _target: False)


def arriving(store):
    return sorted(path.name for path in store.layout.ingest.iterdir() if path.name != "lock")


@pytest.mark.usefixtures("no_clones")
def test_copy_is_hashed_while_it_is_written(store, file, monkeypatch):
    def reads_it_again(*_arguments):
        raise AssertionError

    monkeypatch.setattr(adopt, "hash_file", reads_it_again)
    heard = []
    taken = take(store.blobs, file, way="copy", on_bytes=heard.append)
    content = file.read_bytes()
    assert (taken.how, taken.size) == ("copy", len(content))
    assert str(taken.digest) == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert store.blobs.path(taken.digest).read_bytes() == content
    assert sum(heard) == len(content)
    assert store.blobs.path(taken.digest).stat().st_mode & 0o777 == 0o444
    assert store.blobs.state(Descriptor("", taken.digest, taken.size)) == "good"
    assert arriving(store) == []


@pytest.mark.usefixtures("no_clones")
def test_file_that_is_there_is_not_copied_again(store, file):
    def copies():
        raise AssertionError

    first = take(store.blobs, file, way="copy")
    again = take(store.blobs, file, way="copy", before_copy=copies)
    assert (again.digest, again.how) == (first.digest, "here")


@pytest.mark.usefixtures("no_clones")
def test_other_file_of_the_same_size_is_copied(store, file, tmp_path):
    first = take(store.blobs, file, way="copy")
    other = tmp_path / "other"
    other.write_bytes(bytes(first.size))
    taken = take(store.blobs, other, way="copy")
    assert taken.how == "copy"
    assert store.blobs.path(taken.digest).read_bytes() == bytes(first.size)


@pytest.mark.usefixtures("no_clones")
@pytest.mark.parametrize("way", ["copy", "link"])
def test_file_that_changes_while_it_is_read_is_not_stored(store, file, way):
    def write(_count):
        with file.open("r+b") as out:
            out.write(b"other")
        os.utime(file, ns=(1, 1))

    with pytest.raises(DigestMismatchError, match="changed while it was read"):
        take(store.blobs, file, way=way, on_bytes=write)
    assert list(store.layout.blobs.iterdir()) == []
    assert arriving(store) == []


@pytest.mark.usefixtures("no_clones")
@pytest.mark.parametrize("way", ["copy", "auto"])
def test_file_that_is_not_what_its_program_says_is_not_stored(store, file, way):
    with pytest.raises(DigestMismatchError, match="is damaged"):
        take(store.blobs, file, Digest("0" * 64), way=way)
    assert list(store.layout.blobs.iterdir()) == []
    assert arriving(store) == []


@pytest.mark.usefixtures("no_clones")
def test_what_a_killed_copy_has_left_goes_with_the_next(store, file):
    store.layout.create()
    program = (
        "import pathlib, sys; from modelrunner.disk.files import temporary_beside;"
        "path = temporary_beside(pathlib.Path(sys.argv[1])); path.write_bytes(b'half');"
        "print(path)"
    )
    place = store.layout.ingest / "copy"
    words = [sys.executable, "-c", program, str(place)]
    left = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    mine = temporary_beside(place)
    mine.write_bytes(b"half")
    assert Path(left).exists()
    take(store.blobs, file, way="copy")
    assert not Path(left).exists()
    # another copy of this process
    assert mine.exists()


@pytest.mark.usefixtures("no_clones")
def test_link_that_cannot_be_is_an_error_before_anything_is_read(store, file, monkeypatch):
    def no_links(_source, _target):
        raise OSError

    monkeypatch.setattr(os, "link", no_links)
    heard = []
    with pytest.raises(UsageError) as caught:
        take(store.blobs, file, way="link", on_bytes=heard.append)
    assert caught.value.message == f"cannot link {file} into the local store"
    assert heard == []
    assert arriving(store) == []


def test_package_links_where_that_is_wanted(cli, tmp_path):
    path = tiny_gguf(tmp_path / "tiny.gguf")
    copied = cli("package", str(path), "team/copied:1")
    assert copied.returncode == 0, copied.stderr
    assert cli("rm", "team/copied:1").returncode == 0
    linked = cli("package", str(path), "team/linked:1", "--link")
    assert linked.returncode == 0, linked.stderr
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (cli.home / "store/v1/blobs/sha256" / digest).samefile(path)
    # a file that is written to afterwards is noticed
    with path.open("r+b") as file:
        file.write(b"XXXX")
    assert cli("verify", "team/linked:1").returncode == 6
