"""Small file operations that must not leave half a file: written beside, flushed, renamed."""

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from modelrunner.disk.inside import open_inside, read_inside
from modelrunner.errors import DiskFullError, StoreAccessError, UsageError
from modelrunner.text import os_hint, os_reason

TEMPORARY_PREFIX = ".tmp-"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TOO_MANY = (errno.EMFILE, errno.ENFILE)
_FAILING = (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ETIMEDOUT)
_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that know no flushing: some network, overlay and FUSE ones."""
SECONDS_IN_USE = 3600
"""How long a temporary file may belong to somebody of whom nothing is known."""
_OWNER = r"(?P<machine>[0-9a-f]{8})\.(?P<pid>[0-9a-f]{1,8})-[0-9a-f]{12}"
STATE_HINT = "check its owner and permissions, or set MODELRUNNER_STATE to another directory"
"""What to do where logs and records cannot be written."""


@contextmanager
def disk_errors(place: Path, hint: str | None = None) -> Iterator[None]:
    """Turns what the operating system says of a disk, a file or a directory into our words.

    A missing file, a lock that is held, and what networks say are for the caller.

    Args:
        place: Named where the system names nothing.
        hint: What to do where the place may not be used.

    Raises:
        DiskFullError: No space left, the quota is used up, or files may not be this large.
        StoreAccessError: Anything else: not ours to read or write, mounted read-only, failing.
    """
    try:
        yield
    except OSError as exc:
        if not is_of_disk(exc) or isinstance(exc, FileNotFoundError):
            raise
        raise disk_error(exc, place, hint) from exc


def is_of_disk(error: OSError) -> bool:
    """Whether an error is one of files, and not of a network, a child or a library."""
    other = (BlockingIOError, ChildProcessError, ConnectionError, InterruptedError)
    return (
        error.errno is not None
        and type(error).__module__ == "builtins"
        and not isinstance(error, other)
        # network clients raise a bare one where no file is named
        and not (isinstance(error, TimeoutError) and error.filename is None)
    )


def disk_error(
    error: OSError, place: Path, refused: str | None = None
) -> DiskFullError | StoreAccessError:
    """The error of ours for one of a disk, see `disk_errors`."""
    if error.errno in _FULL:
        return DiskFullError(
            f"the disk is full: {place}",
            hint="free some space (`modelrunner df`, `modelrunner prune`) and run the same "
            "command again to resume",
            path=str(place),
        )
    if error.errno == errno.EFBIG:
        return DiskFullError(
            f"file too large for the file system: {place}",
            hint="raise the limit (`ulimit -f`), or set MODELRUNNER_HOME to a disk with another "
            "file system",
            path=str(place),
        )
    named = str(error.filename or place)
    if error.errno == errno.EISDIR:
        # of a move it is the place where the file was to go
        named = str(error.filename2 or named)
        hint = "move it away: a file belongs there"
    elif error.errno in _TOO_MANY:
        hint = "raise the limit (`ulimit -n`), or stop other programs"
    elif error.errno in _FAILING:
        hint = (
            "check the file system, the disk and its connection (`dmesg`), or set "
            "MODELRUNNER_HOME to another disk"
        )
    elif error.errno == errno.ELOOP:
        hint = "check its owner and remove it, or set MODELRUNNER_HOME to another directory"
    else:
        hint = (
            refused
            or "check its owner and permissions, or set MODELRUNNER_HOME to another directory"
        )
    return StoreAccessError(f"cannot use {named}: {os_reason(error)}", hint=hint, path=named)


def write_at(handle: int, content: memoryview, offset: int) -> None:
    """Write bytes at an offset, all of them.

    Raises:
        OSError: They cannot be written.
    """
    while content:
        written = os.pwrite(handle, content, offset)
        content, offset = content[written:], offset + written


def flush(handle: int) -> None:
    """Makes what was written to an open file last through a power cut, where the system can."""
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in _NO_FLUSH:
            raise


def flush_file_system(folder: Path) -> None:
    """Make all that was written to the file system of a directory last through a power cut.

    One call for a tree of many files, where one for each would take minutes.

    Raises:
        OSError: What was written before cannot be kept.
    """
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "syncfs"):
        os.sync()
        return
    # outside: a directory, to be flushed
    handle = os.open(folder, os.O_RDONLY)
    try:
        if library.syncfs(handle) != 0:
            number = ctypes.get_errno()
            if number not in _NO_FLUSH:
                raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(handle)


def cannot_write(
    error: OSError, place: str, *, option: str = "", hint: str | None = None
) -> DiskFullError | UsageError:
    """The error for a file outside of the store that cannot be written.

    Args:
        error: What the operating system says.
        place: The file, as it is to be shown.
        option: The option that has named it.
        hint: What to do where nothing better is known.
    """
    named = f"{option}: " if option else ""
    if error.errno in (*_FULL, errno.EFBIG):
        return DiskFullError(
            f"{named}cannot write {place}: {os_reason(error)}",
            hint="free some space on its disk, or write to another one",
            path=place,
        )
    return UsageError(
        f"{named}cannot write {place}: {os_reason(error)}", hint=hint or os_hint(error)
    )


def write_atomically(
    path: Path, content: bytes, *, tidy: bool = True, private: bool = False
) -> None:
    """Writes a file so that there is the old one or the new one, whatever happens.

    Args:
        path: The file.
        content: What it is to contain.
        tidy: Whether to remove what killed processes have left beside it. Where a directory has
            thousands of files, and is tidied by others, that takes too long.
        private: Whether it is for its owner alone.
    """
    if tidy:
        remove_abandoned(path)
    with _written_beside(path, content, flushed=True, private=private) as beside:
        beside.replace(path)
    sync_directory(path.parent)


def write_lightly(path: Path, content: bytes, *, tidy: bool = True, private: bool = False) -> None:
    """Like `write_atomically`, for what may be lost or empty after a power cut."""
    if tidy:
        remove_abandoned(path)
    with _written_beside(path, content, flushed=False, private=private) as beside:
        beside.replace(path)


@contextmanager
def _written_beside(path: Path, content: bytes, *, flushed: bool, private: bool) -> Iterator[Path]:
    beside = temporary_beside(path)
    try:
        with open_inside(beside, "new", private=private) as file:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
            if flushed:
                flush(file.fileno())
        yield beside
    except BaseException:
        # an error of this would hide the one that matters
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def temporary_beside(path: Path) -> Path:
    """Return a free name in the same directory, with its process, see `remove_abandoned`."""
    owner = f"{_machine()}.{os.getpid():x}"
    return path.with_name(f"{_leftover_prefix(path)}{owner}-{os.urandom(6).hex()}")


def remove_abandoned(path: Path) -> None:
    """Removes what processes that were killed have left beside a file, under temporary names.

    That of a process which still runs is left alone; that of another machine or container, whose
    processes are not known, until it is old. So is what cannot be removed, and what another user
    has made.
    """
    prefix = _leftover_prefix(path)
    try:
        with os.scandir(path.parent) as entries:
            found = [entry.name for entry in entries if entry.name.startswith(prefix)]
    except OSError:
        return
    for name in found:
        owner = re.fullmatch(_OWNER, name[len(prefix) :])
        with suppress(OSError):
            leftover = path.with_name(name)
            looked = leftover.lstat()
            mine = not hasattr(os, "geteuid") or looked.st_uid == os.geteuid()
            if owner is not None and mine and not stat.S_ISDIR(looked.st_mode):
                known = owner["machine"] == _machine() and hasattr(os, "geteuid")
                old = looked.st_ctime < time.time() - SECONDS_IN_USE
                # bounded: eight digits, see `_OWNER`
                if not _runs(int(owner["pid"], 16)) if known else old:
                    leftover.unlink()


def _leftover_prefix(path: Path) -> str:
    return f"{TEMPORARY_PREFIX}{path.name[:80]}-"


@cache
def _machine() -> str:
    """Names the set of processes of which this one is: a machine's, or a container's."""
    host = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    with suppress(OSError):
        host += str(Path("/proc/self/ns/pid").readlink())
    # most commands write nothing, and it loads OpenSSL
    import hashlib

    return hashlib.sha256(os.fsencode(host)).hexdigest()[:8]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    try:
        # killed, and its parent has not noticed yet
        return read_inside(Path(f"/proc/{pid}/stat"), 4096).rpartition(b")")[2].split()[0] != b"Z"
    except (OSError, IndexError):
        return True


def nearest_existing(folder: Path) -> Path:
    """The directory, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


@contextmanager
def lasting(folder: Path) -> Iterator[None]:
    """The block in which a directory is made, which with those above it outlives a power cut."""
    there = nearest_existing(folder)
    yield
    while folder not in (there, folder.parent):
        folder = folder.parent
        sync_directory(folder)


def sync_directory(path: Path) -> None:
    """Makes renames in a directory last through a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        # outside: a directory, to be flushed
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        # one that may be written and not read; the rename itself is still atomic
        return
    try:
        flush(handle)
    except OSError as exc:
        if exc.errno != errno.EROFS:
            raise
    finally:
        os.close(handle)
