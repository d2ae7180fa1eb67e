"""Files inside a directory that other users may write to: the one way to open or make one.

Another user may have put a link, a pipe or a device where a file of the store should be: to write
through it would change somebody else's file, to read it could wait forever. So nothing is opened
but regular files, none through a symbolic link, and none to be written that has a second name.

Where a directory is for a group (setgid, and writable for it), what is made in it is so too,
whatever the umask.
"""

import errno
import io
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

Access = Literal["read", "change", "update", "append", "new", "lock", "held"]
"""What a file is opened for.

`change` reads and writes one that is there; `update` and `append` make it if it is missing; `new`
makes it or fails. `lock` and `held` are for files that are only locked, made if missing or not:
they are not written, so a second name, as in a store copied by hard links, does no harm.
"""

_FLAGS: dict[Access, int] = {
    "read": os.O_RDONLY,
    "change": os.O_RDWR,
    "update": os.O_RDWR | os.O_CREAT,
    "append": os.O_RDWR | os.O_CREAT | os.O_APPEND,
    "new": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "lock": os.O_RDWR | os.O_CREAT,
    "held": os.O_RDWR,
}
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# a pipe would make whoever opens it wait for its other end
_ALWAYS = (
    getattr(os, "O_CLOEXEC", 0)
    | _NOFOLLOW
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)
_MODES: dict[Access, str] = {"read": "rb", "new": "wb"}
READ_ONLY = 0o444
_CHUNK = 1024 * 1024
_GROUP_FILE = stat.S_IRGRP | stat.S_IWGRP
_GROUP_DIRECTORY = stat.S_IRWXG | stat.S_ISGID


class InsideFile(io.FileIO):
    """An open file, unbuffered; `on_close` is called when it is closed."""

    on_close: Callable[[], None] | None = None

    def content(self, limit: int | None = None) -> bytes:
        """Returns what is left to read of the file, or the first `limit` bytes of that."""
        pieces = []
        left = sys.maxsize if limit is None else limit
        while left and (piece := self.read(min(left, _CHUNK))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Closes the file, and then gives back what was held by it."""
        super().close()
        release, self.on_close = self.on_close, None
        if release is not None:
            release()


def open_content(path: Path) -> InsideFile:
    """Opens a regular file whose content is hashed or compared, so that it may be a link.

    Raises:
        FileNotFoundError: As `open` does.
        OSError: It cannot be opened, or is not a regular file (EINVAL).
    """
    return _checked(os.open(path, _FLAGS["read"] | _ALWAYS & ~_NOFOLLOW), path, "read")


def read_content(path: Path, limit: int) -> bytes:
    """The first bytes of a file, opened as `open_content` does: for many small files, one by one.

    Raises:
        FileNotFoundError: As `open` does.
        OSError: It cannot be read, or is not a regular file (EINVAL).
    """
    return _read(path, _FLAGS["read"] | _ALWAYS & ~_NOFOLLOW, limit)


def read_small(path: Path | str, limit: int) -> bytes:
    """The first bytes of a file, opened as `open_inside` does: for many small files, one by one.

    Raises:
        FileNotFoundError: As `open` does.
        OSError: It cannot be read, is a link (ELOOP), or is not a regular file (EINVAL).
    """
    return _read(path, _FLAGS["read"] | _ALWAYS, limit)


def make_new(path: str) -> int:
    """Make a file inside a directory that others may write to; its handle, for both ways.

    It is regular, empty and has one name, since nothing was there: there is nothing to look at.
    For many small files, in directories that are not for a group: see `is_for_a_group`.

    Raises:
        FileExistsError: Anything is there, a link to nothing included.
        OSError: It cannot be made.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _ALWAYS, 0o666)


def _read(path: Path | str, flags: int, limit: int) -> bytes:
    handle = os.open(path, flags)
    try:
        found = os.fstat(handle)
        _require_file(found, path, "read")
        wanted, content = min(limit, found.st_size), b""
        while len(content) < wanted and (
            piece := os.read(handle, min(wanted - len(content), _CHUNK))
        ):
            content += piece
        return content
    finally:
        os.close(handle)


def open_inside(path: Path, access: Access, *, private: bool = False) -> InsideFile:
    """Opens a regular file inside a directory that others may write to.

    Args:
        path: The file.
        access: What for.
        private: Whether it is for its owner alone, from the moment that it is made.

    Raises:
        FileNotFoundError, FileExistsError: As `open` does.
        OSError: It cannot be opened, is a link (ELOOP), or is not a regular file (EINVAL).
    """
    made = bool(_FLAGS[access] & os.O_CREAT) and not os.path.lexists(path)
    try:
        handle = os.open(path, _FLAGS[access] | _ALWAYS, 0o600 if private else 0o666)
    except OSError as exc:
        if path.is_symlink() and not isinstance(exc, FileExistsError):
            raise OSError(errno.ELOOP, "it is a symbolic link", str(path)) from exc
        raise
    file = _checked(handle, path, access)
    if private:
        _keep_from_others(file)
    elif made and is_for_a_group(path.parent):
        _let_the_group(handle)
    return file


def _checked(handle: int, path: Path, access: Access) -> InsideFile:
    try:
        file = InsideFile(handle, _MODES.get(access, "r+b"))
    except OSError as exc:
        # a directory
        os.close(handle)
        raise OSError(exc.errno, exc.strerror, str(path)) from exc
    try:
        _require_file(os.fstat(handle), path, access)
    except OSError:
        file.close()
        raise
    return file


def _require_file(found: os.stat_result, path: Path | str, access: Access) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    if access in ("change", "update", "append") and found.st_nlink > 1:
        raise OSError(errno.ELOOP, "it is a hard link to another file", str(path))


def read_inside(path: Path, limit: int | None = None) -> bytes:
    """Returns a file's content, or its first `limit` bytes, see `open_inside`."""
    with open_inside(path, "read") as file:
        return file.content(limit)


def make_read_only(file: io.FileIO, path: Path) -> None:
    """Takes everybody's permission to write away, where the owner and the file system let it.

    exFAT, FAT and SMB have no permissions; another user's file is for that user to change.
    """
    with suppress(OSError):
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), READ_ONLY)
        else:  # pragma: no cover - Windows knows files by name only
            path.chmod(READ_ONLY)


def make_directory(path: Path) -> None:
    """Makes a directory and those above it; nothing changes if it is there.

    Raises:
        OSError: It cannot be made, or is a link that another user has made (ELOOP).
    """
    if not path.parent.is_dir():
        make_directory(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
        require_own_link(path)
    else:
        if is_for_a_group(path.parent):
            with suppress(OSError):
                path.chmod(path.stat().st_mode | _GROUP_DIRECTORY)


def require_own_link(path: Path) -> None:
    """Refuses a directory that is a link, unless this user or root has made the link.

    Raises:
        OSError: Another user has made it (ELOOP).
    """
    if (
        hasattr(os, "geteuid")
        and path.is_symlink()
        and path.lstat().st_uid not in (0, os.geteuid())
    ):
        raise OSError(errno.ELOOP, "it is a symbolic link that another user owns", str(path))


def is_for_a_group(directory: Path) -> bool:
    """Whether what is made in a directory is for its group, whatever the umask."""
    mode = directory.stat().st_mode
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def _keep_from_others(file: InsideFile) -> None:
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), 0o600)
    except OSError:
        file.close()
        raise


def _let_the_group(handle: int) -> None:
    # a file system without permissions lets everybody anyway
    with suppress(OSError, AttributeError):
        os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode) | _GROUP_FILE)
