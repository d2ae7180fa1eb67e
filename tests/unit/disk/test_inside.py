"""A directory that others may write to: nothing in it is opened through what they put there."""

import ast
import errno
import os
import stat
import sys
from pathlib import Path

import pytest

import modelrunner
from modelrunner.disk.files import disk_errors
from modelrunner.disk.inside import (
    make_directory,
    open_content,
    open_inside,
    read_content,
    read_inside,
)
from modelrunner.errors import StoreAccessError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.journal import Journal, noted_bytes
from modelrunner.store.stamps import is_stamped
from tests.support.artifacts import docker_artifact
from tests.support.stores import put

PACKAGE = Path(modelrunner.__file__).parent
SOURCES = [*(PACKAGE / "store").glob("*.py"), *(PACKAGE / "disk").glob("*.py")]
CONTENT = b"GGUF" * 1000
BLOB = Descriptor("application/x", Digest.of(CONTENT), len(CONTENT))

OPENS = {
    "inside.py": "the helper itself",
    "files.py": "flushes a directory: opened with O_DIRECTORY, and nothing is read or written",
}
"""Who opens files in another way, and why that is safe."""

WAYS = ("read", "change", "update", "append")


def test_the_store_opens_files_in_one_way_only():
    found = {
        f"{path.name}:{call.lineno}: {ast.unparse(call)}"
        for path in SOURCES
        if path.name not in OPENS
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and opens(call)
    }
    assert found == set()


def opens(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in ("open", "FileIO", "fdopen")
    names = ("open", "read_bytes", "read_text", "write_bytes", "write_text", "touch", "fdopen")
    copies = ("copyfile", "copy", "copy2", "copytree", "move", "FileIO")
    if not isinstance(function, ast.Attribute):
        return False
    # `copy` without arguments is that of an object in memory
    return function.attr in (*names, *copies) and (function.attr != "copy" or bool(call.args))


@pytest.fixture
def victim(tmp_path):
    file = tmp_path / "victim"
    file.write_bytes(b"precious")
    yield file
    assert file.read_bytes() == b"precious"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.parametrize("access", WAYS)
def test_a_symbolic_link_is_not_opened(tmp_path, victim, access):
    link = tmp_path / "link"
    link.symlink_to(victim)
    with pytest.raises(OSError, match="it is a symbolic link") as caught:
        open_inside(link, access)
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(link))
    link.unlink()
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(OSError, match="it is a symbolic link"):
        open_inside(link, access)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("access", ["change", "update", "append"])
def test_a_second_name_of_a_file_is_not_opened_to_be_written(tmp_path, victim, access):
    os.link(victim, tmp_path / "link")
    with pytest.raises(OSError, match="it is a hard link to another file"):
        open_inside(tmp_path / "link", access)
    assert read_inside(tmp_path / "link") == b"precious"


@pytest.mark.parametrize("access", WAYS)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_keeps_nobody_waiting(tmp_path, access):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"it is not a regular file|No such device"):
        open_inside(tmp_path / "pipe", access)
    with pytest.raises(OSError, match="it is not a regular file"):
        open_content(tmp_path / "pipe")


def test_the_words_for_a_link_name_it_and_say_what_to_do(tmp_path, victim):
    link = tmp_path / "link"
    link.symlink_to(victim)
    with pytest.raises(StoreAccessError) as caught, disk_errors(tmp_path):
        open_inside(link, "append")
    assert caught.value.message == f"cannot use {link}: it is a symbolic link"
    assert (caught.value.hint or "").startswith("check its owner and remove it")


def test_a_files_first_bytes_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read_inside(tmp_path / "file") == b"0123456789"
    assert read_inside(tmp_path / "file", 4) == b"0123"


@pytest.mark.parametrize("size", [0, 1, 4096, 3 * 1024 * 1024 + 1])
def test_a_content_is_read_whole_or_up_to_a_limit(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert read_content(tmp_path / name, 4 * 1024 * 1024) == content
        assert read_content(tmp_path / name, 1000) == content[:1000]


def test_no_content_is_read_of_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(OSError, match="not a regular file"):
            read_content(tmp_path / name, 10)
    with pytest.raises(FileNotFoundError):
        read_content(tmp_path / "none", 10)


def test_a_journal_that_is_a_link_leads_nowhere(store, victim):
    store.layout.create()
    journal = store.layout.journal(BLOB.digest)
    journal.symlink_to(victim)
    with pytest.raises(StoreAccessError, match="it is a symbolic link"):
        Journal(journal, BLOB.size, 100)
    assert noted_bytes(journal, BLOB.size) == 0


@pytest.mark.parametrize("name", ["lock", "ingest/lock"])
def test_a_lock_that_is_a_link_leads_nowhere(store, tmp_path, name):
    put(store, docker_artifact(CONTENT), "ai/m:1")
    file = store.layout.root / name
    file.unlink()
    file.symlink_to(tmp_path / "planted")
    with pytest.raises(StoreAccessError, match="it is a symbolic link"):
        put(store, docker_artifact(b"other"), "ai/m:2")
    assert not (tmp_path / "planted").exists()


def test_an_index_that_is_a_link_is_not_read(store, tmp_path):
    put(store, docker_artifact(CONTENT), "ai/m:1")
    store.layout.index.replace(tmp_path / "index.json")
    store.layout.index.symlink_to(tmp_path / "index.json")
    with pytest.raises(StoreAccessError, match="it is a symbolic link"):
        store.models()


def test_a_stamp_that_is_a_link_is_none(store, tmp_path):
    store.layout.create()
    store.blobs.put(BLOB, CONTENT)
    stamp = store.layout.stamp(BLOB.digest)
    assert is_stamped(store.layout, BLOB.digest)
    stamp.replace(tmp_path / "stamp")
    stamp.symlink_to(tmp_path / "stamp")
    assert not is_stamped(store.layout, BLOB.digest)


needs_root = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root gives files away"
)


@needs_root
@pytest.mark.parametrize("name", ["ingest", "blobs", "views"])
def test_a_directory_that_another_user_has_made_a_link_is_not_used(store, tmp_path, name):
    store.layout.create()
    folder = store.layout.root / name
    folder.rename(tmp_path / name)
    folder.symlink_to(tmp_path / name)
    store.blobs.put(BLOB, CONTENT)
    os.chown(folder, 12345, 12345, follow_symlinks=False)
    with pytest.raises(StoreAccessError, match="it is a symbolic link that another user owns"):
        store.layout.create()


def test_what_is_made_in_a_groups_directory_is_the_groups(tmp_path):
    before = os.umask(0o077)
    try:
        (tmp_path / "own").mkdir(mode=0o755)
        (tmp_path / "group").mkdir()
        (tmp_path / "group").chmod(0o2775)
        for folder in ("own", "group"):
            make_directory(tmp_path / folder / "a" / "b")
            open_inside(tmp_path / folder / "a" / "file", "update").close()
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(tmp_path)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in tmp_path.rglob("*")
    }
    assert modes == {
        "own": "0o700",
        "own/a": "0o700",
        "own/a/b": "0o700",
        "own/a/file": "0o600",
        "group": "0o2775",
        "group/a": "0o2770",
        "group/a/b": "0o2770",
        "group/a/file": "0o660",
    }


@pytest.mark.parametrize("access", ["new", "append"])
def test_a_private_file_is_its_owners_from_the_moment_that_it_is_made(
    tmp_path, monkeypatch, access
):
    tmp_path.chmod(0o2775)
    modes = []
    really = os.open

    def noted(path, flags, mode=0o777):
        handle = really(path, flags, mode)
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        return handle

    monkeypatch.setattr(os, "open", noted)
    umask = os.umask(0)
    try:
        with open_inside(tmp_path / "log", access, private=True) as file:
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
    finally:
        os.umask(umask)
    assert modes == [0o600]


def test_a_private_file_that_others_could_read_is_taken_from_them(tmp_path):
    log = tmp_path / "log"
    log.touch(0o644)
    open_inside(log, "append", private=True).close()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
