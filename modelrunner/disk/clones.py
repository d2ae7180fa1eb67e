"""Copies that take no room, where the file system has such (Btrfs, XFS, ZFS, bcachefs)."""

import errno
import os
import sys
from pathlib import Path

from modelrunner.disk.inside import open_content, open_inside

_FICLONE = 0x40049409
_CHUNK = 4 * 1024 * 1024


def share_blocks(source: Path, target: Path) -> bool:
    """Makes a new file that shares the blocks of another; whether it could."""
    if sys.platform != "linux":
        return False
    with open_content(source) as file, open_inside(target, "new") as copy:
        shared = _clone(file.fileno(), copy.fileno())
    if not shared:
        target.unlink()
    return shared


def copy_data(source: int, target: int) -> None:
    """Copies an open file into an empty one, and leaves its holes out."""
    if _clone(source, target):
        return
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for begin, end in _extents(source, size):
        start = begin
        while start < end:
            os.lseek(source, start, os.SEEK_SET)
            chunk = memoryview(os.read(source, min(_CHUNK, end - start)))
            if not chunk:
                return
            os.lseek(target, start, os.SEEK_SET)
            while chunk:
                written = os.write(target, chunk)
                chunk, start = chunk[written:], start + written


def _extents(handle: int, size: int) -> list[tuple[int, int]]:
    """Where a sparse file has data; all of it where the system does not know."""
    found: list[tuple[int, int]] = []
    if not hasattr(os, "SEEK_DATA"):
        return [(0, size)]
    end = 0
    while end < size:
        try:
            begin = os.lseek(handle, end, os.SEEK_DATA)
            end = os.lseek(handle, begin, os.SEEK_HOLE)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                break
            return [(0, size)]
        found.append((begin, end))
    return found


def _clone(source: int, target: int) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True
