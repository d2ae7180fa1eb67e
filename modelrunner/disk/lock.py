"""Locks between processes: an open file, locked as long as it is open, freed by the kernel.

`flock` is asked first. Where a file system does not have it, as NFS without a lock daemon, Lustre
or some FUSE file systems, the locks of open file descriptions of Linux are tried. Where there are
none either, a table of this process keeps its threads apart, other processes are not kept out, and
a `NoLocksWarning` says so once: what two processes do at once could then be lost, but no wrong
byte can become a blob, since each is hashed.
"""

import errno
import os
import warnings
from _thread import allocate_lock
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from modelrunner.disk.files import disk_errors
from modelrunner.disk.inside import InsideFile, open_inside

Mode = Literal["shared", "exclusive"]

_UNSUPPORTED = (
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.EBADF,
    errno.EINVAL,
)
"""What systems say where a file system, or a file that is open for reading only, has no locks."""


class NoLocksWarning(UserWarning):
    """A file system has no locks: only one process at a time should use what lies there."""


@contextmanager
def file_lock(path: Path, mode: Mode = "exclusive") -> Iterator[None]:
    """Holds the lock file `path`; waits until another process releases it."""
    with open_lock(path) as file:
        lock(file, mode)
        # closing the file frees the lock, in every way out of the block and of the process
        yield


@contextmanager
def held(path: Path, mode: Mode = "exclusive") -> Iterator[None]:
    """Like `file_lock`, in the words of the store; what the block raises is left as it is.

    Raises:
        DiskFullError, StoreAccessError: The lock file cannot be had.
    """
    with ExitStack() as stack:
        with disk_errors(path):
            stack.enter_context(file_lock(path, mode))
        yield


def open_lock(path: Path) -> InsideFile:
    """Opens a lock file, made if it is missing; for reading where that is all that is allowed."""
    try:
        # network file systems lock exclusively only what is open for writing
        return open_inside(path, "lock")
    except PermissionError:
        return open_inside(path, "read")


def open_held(path: Path) -> InsideFile:
    """Like `open_lock`, for a file that is not made if it is missing."""
    try:
        return open_inside(path, "held")
    except OSError as exc:
        if exc.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return open_inside(path, "read")


def lock(file: InsideFile, mode: Mode = "exclusive") -> None:
    """Locks an open file, waiting for it."""
    _lock(file, mode, wait=True)


def try_lock(file: InsideFile) -> bool:
    """Locks an open file for this process alone, unless another one has it."""
    try:
        _lock(file, "exclusive", wait=False)
    except BlockingIOError:
        return False
    return True


def lock_new(handle: int) -> bool:
    """Lock a file that was just made, by its handle; False where `try_lock` has to see to it.

    That is where another process was faster, or the file system has no locks of the usual kind.
    """
    return _lock_new(handle)


class _Table:
    """Who in this process holds which file, where the file system cannot know."""

    def __init__(self) -> None:
        # only file systems without locks need it
        from threading import Condition

        self._changed = Condition()
        self._holders: dict[tuple[int, int], int] = {}

    def take(self, file: InsideFile, mode: Mode, *, wait: bool) -> None:
        """Notes a holder, who leaves by closing the file.

        Raises:
            BlockingIOError: Somebody else holds it, and this one does not wait.
        """
        status = os.fstat(file.fileno())
        key = status.st_dev, status.st_ino
        with self._changed:
            while not self._is_free(key, mode):
                if not wait:
                    raise BlockingIOError
                self._changed.wait()
            # exclusive is less than nobody, shared is a number of holders
            self._holders[key] = -1 if mode == "exclusive" else self._holders.get(key, 0) + 1
        file.on_close = partial(self._leave, key)

    def _is_free(self, key: tuple[int, int], mode: Mode) -> bool:
        holders = self._holders.get(key, 0)
        return holders == 0 or (holders > 0 and mode == "shared")

    def _leave(self, key: tuple[int, int]) -> None:
        with self._changed:
            left = self._holders.pop(key) - 1
            if left > 0:
                self._holders[key] = left
            self._changed.notify_all()


_tables: list[_Table] = []
_guard = allocate_lock()


def _table() -> _Table:
    """Return the table of this process."""
    with _guard:
        if not _tables:
            _tables.append(_Table())
    return _tables[0]


def _without_locks(file: InsideFile, mode: Mode, *, wait: bool) -> None:
    # a file of a read-only store is held by nobody who changes it
    if file.writable():
        warnings.warn(
            "the file system of the store does not support file locks: run one modelrunner "
            "command at a time, or set MODELRUNNER_HOME to a directory on another file "
            "system",
            NoLocksWarning,
            stacklevel=2,
        )
    _table().take(file, mode, wait=wait)


if os.name == "posix":
    import fcntl

    _OFD = {
        True: getattr(fcntl, "F_OFD_SETLKW", None),
        False: getattr(fcntl, "F_OFD_SETLK", None),
    }

    def _lock(file: InsideFile, mode: Mode, *, wait: bool) -> None:
        operation = fcntl.LOCK_SH if mode == "shared" else fcntl.LOCK_EX
        try:
            fcntl.flock(file.fileno(), operation if wait else operation | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in _UNSUPPORTED:
                raise
            if not _lock_description(file, mode, wait=wait):
                _without_locks(file, mode, wait=wait)

    def _lock_new(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _lock_description(file: InsideFile, mode: Mode, *, wait: bool) -> bool:
        """Locks the open file description; False where that is not supported."""
        command = _OFD[wait]
        if command is None:
            return False
        kind = fcntl.F_RDLCK if mode == "shared" else fcntl.F_WRLCK
        # asked of few file systems
        import struct

        # struct flock: type, whence, start, length (0 is all), process (0 for these locks)
        whole = struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)
        try:
            fcntl.fcntl(file.fileno(), command, whole)
        except BlockingIOError:
            raise
        except OSError as exc:
            if exc.errno == errno.EACCES:
                raise BlockingIOError from exc
            if exc.errno not in _UNSUPPORTED:
                raise
            return False
        return True

else:  # pragma: no cover - Windows has byte ranges and no shared form

    def _lock_new(handle: int) -> bool:  # noqa: ARG001
        return False

    def _lock(file: InsideFile, mode: Mode, *, wait: bool) -> None:  # noqa: ARG001
        import msvcrt

        file.seek(0)
        try:
            msvcrt.locking(  # type: ignore[attr-defined,unused-ignore]
                file.fileno(),
                msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK,  # type: ignore[attr-defined,unused-ignore]
                1,
            )
        except OSError as exc:
            raise BlockingIOError from exc
