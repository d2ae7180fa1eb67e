"""Small file operations that must not leave half a file: written beside, flushed, renamed."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelrunner.errors import DiskFullError, StoreAccessError

TEMPORARY_PREFIX = ".tmp-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNUSABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turns what the operating system says of a full or forbidden disk into our words.

    Raises:
        DiskFullError: No space left, the quota is used up, or files may not be this large.
        StoreAccessError: Not ours to read or write, mounted read-only, or not what it should be.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise DiskFullError(
                f"the disk is full: {place}",
                hint="free some space (`modelrunner df`, `modelrunner prune`) and run the same"
                " command again: it goes on where it stopped",
                path=str(place),
            ) from exc
        if exc.errno == errno.EFBIG:
            raise DiskFullError(
                f"the file system takes no file as large as this: {place}",
                hint="raise the limit (`ulimit -f`), or set MODELRUNNER_HOME to a disk with"
                " another file system",
                path=str(place),
            ) from exc
        if exc.errno in _UNUSABLE:
            raise StoreAccessError(
                f"{exc.filename or place} cannot be used: {exc.strerror}",
                hint="check who owns it, or set MODELRUNNER_HOME to a folder of yours",
                path=str(exc.filename or place),
            ) from exc
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that there is the old one or the new one, whatever happens."""
    with _written_beside(path, content) as beside:
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    sync_directory(path.parent)


def write_lightly(path: Path, content: bytes) -> None:
    """Like `write_atomically`, for what may be lost or empty after a power cut."""
    with _written_beside(path, content) as beside:
        beside.replace(path)


@contextmanager
def _written_beside(path: Path, content: bytes) -> Iterator[Path]:
    beside = temporary_beside(path)
    try:
        with beside.open("xb") as file:
            file.write(content)
        yield beside
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def temporary_beside(path: Path) -> Path:
    """A free name in the same folder, which `prune` knows as a leftover."""
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name[:80]}-{os.urandom(6).hex()}")


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def sync_directory(path: Path) -> None:
    """Makes renames in a folder last through a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as exc:
        # some network and overlay file systems cannot; the rename itself is still atomic
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(handle)
