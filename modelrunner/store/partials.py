"""The files in which blobs arrive: each locked by whoever fills it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from modelrunner.store.lock import lock, try_lock


@contextmanager
def locked_file(path: Path, on_wait: Callable[[], None]) -> Iterator[IO[bytes]]:
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


def open_partial(path: Path) -> IO[bytes]:
    """Opens the file, made if it is not there, for reading and writing, unbuffered."""
    # never through a symbolic link: what it points at is not ours to fill
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags, 0o644)
    except PermissionError:
        # complete and made read-only, but whoever did so died before giving it its name
        path.chmod(0o644)
        handle = os.open(path, flags, 0o644)
    return os.fdopen(handle, "r+b", buffering=0)


def is_still(path: Path, file: IO[bytes]) -> bool:
    """Whether the path still is the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
