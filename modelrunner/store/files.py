"""Small file operations that must not leave half a file: written beside, flushed, renamed."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelrunner.errors import DiskFullError, StoreAccessError

TEMPORARY_PREFIX = ".tmp-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turns what the operating system says of a full or forbidden disk into our words.

    Raises:
        DiskFullError: No space left, or the quota is used up.
        StoreAccessError: Not ours to write, or mounted read-only.
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
        if exc.errno in _FORBIDDEN:
            raise StoreAccessError(
                f"{exc.filename or place} may not be written: {exc.strerror}",
                hint="check who owns it, or set MODELRUNNER_HOME to a folder of yours",
                path=str(exc.filename or place),
            ) from exc
        raise


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes a file so that there is the old one or the new one, whatever happens."""
    beside = temporary_beside(path)
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(mode)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def temporary_beside(path: Path) -> Path:
    """A free name in the same folder, which `prune` knows as a leftover."""
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name[:80]}-{secrets.token_hex(6)}")


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
