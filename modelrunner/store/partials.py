"""The files in which blobs arrive: each locked by the process that fills it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelrunner.disk.clones import copy_data
from modelrunner.disk.files import temporary_beside
from modelrunner.disk.inside import InsideFile, open_inside
from modelrunner.disk.lock import lock, try_lock


@contextmanager
def locked_file(path: Path, on_wait: Callable[[], None]) -> Iterator[InsideFile]:
    """Opens and locks a file that another process may rename or remove meanwhile."""
    while True:
        file = open_partial(path)
        with file:
            if not try_lock(file):
                on_wait()
                lock(file)
            if is_still(path, file):
                yield file
                return


def open_partial(path: Path) -> InsideFile:
    """Opens the file, made if it is not there, for reading and writing, unbuffered."""
    try:
        return open_inside(path, "update")
    except PermissionError:
        # complete and made read-only, but whoever did so died before giving it its name
        with suppress(PermissionError):
            _allow_writing(path)
            return open_inside(path, "update")
    take_over(path)
    return open_inside(path, "update")


def _allow_writing(path: Path) -> None:
    if not hasattr(os, "fchmod"):  # pragma: no cover - Windows knows files by name only
        path.chmod(0o644)
        return
    with open_inside(path, "read") as file:
        os.fchmod(file.fileno(), 0o644)


def take_over(path: Path) -> None:
    """Replaces a file that another user may write to by a copy of one's own.

    Raises:
        PermissionError: It may not be read either, or not be replaced.
    """
    with open_inside(path, "read") as theirs:
        lock(theirs)
        if not is_still(path, theirs):
            return
        beside = temporary_beside(path)
        try:
            with open_inside(beside, "new") as ours:
                copy_data(theirs.fileno(), ours.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def is_still(path: Path, file: InsideFile) -> bool:
    """Whether the path still is the open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
