"""What an archive is written to: a file, several of limited size, or a stream; hashed on the way.

Files are written beside, flushed to the disk and renamed when all of them are complete: there is
the old archive or the new one, never half of one.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import IO

from modelrunner.disk.files import flush, remove_abandoned, sync_directory, temporary_beside
from modelrunner.errors import DiskFullError, ModelRunnerError, UsageError
from modelrunner.store.hashing import SideHash
from modelrunner.text import os_hint, os_reason

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Output:
    """Takes an archive's bytes; `size` and `sha256` are of all that was written."""

    def __init__(self, put: Callable[[memoryview], None]) -> None:
        self._put = put
        self._hash = SideHash()
        self.size = 0
        self.paths: tuple[Path, ...] = ()

    def write(self, chunk: bytes | memoryview) -> None:
        """Appends bytes, which stay as they are until `PENDING` more pieces have come.

        Raises:
            DiskFullError, UsageError: They cannot be written.
        """
        self._hash.add(chunk)
        self._put(memoryview(chunk))
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        """The digest of what was written, in hex."""
        return self._hash.hexdigest()


@contextmanager
def to_stream(stream: IO[bytes]) -> Iterator[Output]:
    """The block in which an archive goes to an open stream.

    Raises:
        DiskFullError: It leads to a disk that is full.
        ModelRunnerError: Whoever should read it has left.
    """

    def put(chunk: memoryview) -> None:
        with _writing("the archive"):
            while chunk:
                chunk = chunk[stream.write(chunk) :]

    yield Output(put)
    with _writing("the archive"):
        stream.flush()


@contextmanager
def to_files(path: Path, part_bytes: int | None = None) -> Iterator[Output]:
    """The block in which an archive is written to `path`, or to `path.000`, `path.001`, ...

    Args:
        path: Where it goes; an archive that is there is replaced at the end of the block.
        part_bytes: How large a part may be; None for one file.

    Raises:
        DiskFullError: No space left; nothing is left behind.
        UsageError: Not a place to write a file to.
    """
    if path.exists() and not S_ISREG(path.stat().st_mode):
        if path.is_dir() or part_bytes is not None:
            raise UsageError(
                f"{path} exists and is not a regular file", hint="name another file with -o"
            )
        # a pipe or a device is written to, never replaced
        # outside: a file that a person names
        with _writing(str(path)), path.open("wb", buffering=0) as stream, to_stream(stream) as out:
            yield out
        return
    # the file that a link leads to is replaced, not the link
    parts = _Parts(path.resolve(), part_bytes)
    output = Output(parts.put)
    try:
        yield output
        output.paths = parts.commit()
    except BaseException:
        parts.discard()
        raise


class _Parts:
    """The files that are being written."""

    def __init__(self, path: Path, part_bytes: int | None) -> None:
        self._path = path
        self._part_bytes = part_bytes
        self._written: list[tuple[Path, Path]] = []
        self._file: IO[bytes] | None = None
        self._room = 0

    def put(self, chunk: memoryview) -> None:
        with _writing(str(self._path)):
            while chunk:
                file = self._open()
                count = file.write(chunk if self._part_bytes is None else chunk[: self._room])
                self._room -= count
                chunk = chunk[count:]

    def commit(self) -> tuple[Path, ...]:
        with _writing(str(self._path)):
            self._close()
            for beside, path in self._written:
                beside.replace(path)
            if self._part_bytes is not None:
                self._remove_stale()
            sync_directory(self._path.parent)
        return tuple(path for _beside, path in self._written)

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
        for beside, _path in self._written:
            with suppress(OSError):
                beside.unlink(missing_ok=True)

    def _open(self) -> IO[bytes]:
        if self._file is not None and (self._part_bytes is None or self._room > 0):
            return self._file
        self._close()
        path = self._path if self._part_bytes is None else part(self._path, len(self._written))
        remove_abandoned(path)
        beside = temporary_beside(path)
        # outside: a file that a person names
        file = beside.open("xb", buffering=0)
        self._file, self._room = file, self._part_bytes or 0
        self._written.append((beside, path))
        return file

    def _close(self) -> None:
        if self._file is not None:
            flush(self._file.fileno())
            self._file.close()

    def _remove_stale(self) -> None:
        """Parts of a longer archive that was here before would be taken for parts of this one."""
        number = len(self._written)
        while (stale := part(self._path, number)).exists():
            stale.unlink()
            number += 1


def part(path: Path, number: int) -> Path:
    """The name of one part of a split archive."""
    return path.with_name(f"{path.name}.{number:03d}")


@contextmanager
def _writing(place: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as exc:
        raise ModelRunnerError(
            "the reader closed the pipe: the archive is incomplete",
            hint="check the errors of the command after the pipe, or write to a file with -o FILE",
        ) from exc
    except OSError as exc:
        if exc.errno in _FULL:
            raise DiskFullError(
                f"the disk is full: {place}",
                hint="free some space, or write to another disk with -o",
                path=place,
            ) from exc
        if exc.errno == errno.EFBIG:
            raise DiskFullError(
                f"file too large for the file system: {place}",
                hint="split the archive, as with --split 4000MB",
                path=place,
            ) from exc
        raise UsageError(
            f"cannot write {place}: {os_reason(exc)}", hint=os_hint(exc), path=place
        ) from exc
