"""What a process that was killed has left beside a file is removed by the next one."""

import ctypes
import errno
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from modelrunner.disk import files
from modelrunner.disk.files import (
    SECONDS_IN_USE,
    disk_errors,
    flush_file_system,
    remove_abandoned,
    temporary_beside,
    write_atomically,
    write_lightly,
)
from modelrunner.disk.inside import open_inside
from modelrunner.errors import StoreAccessError

NAME_OF_A_CHILD = """
import sys
from pathlib import Path
from modelrunner.disk.files import temporary_beside
file = temporary_beside(Path(sys.argv[1]))
file.write_bytes(b"half")
print(file, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def leftover(tmp_path):
    """What another process has left beside `tmp_path / "m.tar"`, and how to end that process."""
    child = subprocess.Popen(
        [sys.executable, "-c", NAME_OF_A_CHILD, tmp_path / "m.tar"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        yield type(tmp_path)(child.stdout.readline().strip()), child
        child.kill()


def test_that_of_a_killed_process_goes_and_that_of_a_running_one_stays(tmp_path, leftover):
    file, child = leftover
    own = temporary_beside(tmp_path / "m.tar")
    own.write_bytes(b"half")
    remove_abandoned(tmp_path / "m.tar")
    assert file.exists()
    child.kill()
    child.wait()
    remove_abandoned(tmp_path / "other.tar")
    assert file.exists()
    remove_abandoned(tmp_path / "m.tar")
    assert not file.exists()
    assert own.exists()


@pytest.mark.parametrize("write", [write_atomically, write_lightly])
def test_who_writes_a_file_removes_what_killed_writers_have_left_of_it(tmp_path, leftover, write):
    file, child = leftover
    child.kill()
    child.wait()
    write(tmp_path / "m.tar", b"whole", tidy=False)
    assert file.exists()
    write(tmp_path / "m.tar", b"whole")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "m.tar"]


def test_that_of_another_machine_goes_when_it_is_old(tmp_path, leftover, monkeypatch):
    file, child = leftover
    child.kill()
    child.wait()
    monkeypatch.setattr(files, "_machine", lambda: "00000000")
    remove_abandoned(tmp_path / "m.tar")
    assert file.exists()
    later = time.time() + SECONDS_IN_USE + 60
    monkeypatch.setattr(time, "time", lambda: later)
    remove_abandoned(tmp_path / "m.tar")
    assert not file.exists()


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path, leftover):
    file, child = leftover
    child.kill()
    child.wait()
    file.rename(tmp_path / "precious")
    file.symlink_to(tmp_path / "precious")
    remove_abandoned(tmp_path / "m.tar")
    assert not file.is_symlink()
    assert (tmp_path / "precious").read_bytes() == b"half"


def test_what_has_another_name_or_is_a_directory_stays(tmp_path):
    names = (".tmp-m.tar-notes", ".tmp-m.tar-0123456789ab", "m.tar", ".tmp-m.tar")
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".tmp-m.tar-00000000.ffff-0123456789ab").mkdir()
    os.utime(tmp_path / ".tmp-m.tar-00000000.ffff-0123456789ab", (0, 0))
    before = sorted(tmp_path.iterdir())
    remove_abandoned(tmp_path / "m.tar")
    remove_abandoned(tmp_path / "missing" / "m.tar")
    assert sorted(tmp_path.iterdir()) == before


def test_a_directory_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "new").write_bytes(b"new")
    place = tmp_path / "place"
    place.mkdir()
    for action in (lambda: (tmp_path / "new").replace(place), lambda: open_inside(place, "update")):
        with pytest.raises(StoreAccessError) as caught, disk_errors(tmp_path):
            action()
        assert str(caught.value) == f"cannot use {place}: is a directory"
        assert caught.value.hint == "move it away: a file belongs there"


class _CLibrary:
    """The C library as far as it is asked: notes what is flushed, and answers with an error."""

    def __init__(self, error: int) -> None:
        self.error = error
        self.flushed: list[str] = []

    def syncfs(self, handle: int) -> int:
        self.flushed.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        ctypes.set_errno(self.error)
        return -1 if self.error else 0


@pytest.mark.parametrize(
    ("error", "told"), [(0, False), (errno.EIO, True), (errno.ENOSPC, True), (errno.ENOSYS, False)]
)
def test_a_whole_file_system_is_flushed_and_says_what_it_cannot_keep(
    tmp_path, monkeypatch, error, told
):
    library = _CLibrary(error)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_arguments, **_options: library)
    with pytest.raises(OSError, match=os.strerror(error)) if told else nullcontext() as raised:
        flush_file_system(tmp_path)
    assert library.flushed == [str(tmp_path)]
    assert not told or (raised.value.errno, raised.value.filename) == (error, str(tmp_path))
