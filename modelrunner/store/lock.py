"""Locks between processes: an open file, locked as long as it is open, freed by the kernel."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Literal

from modelrunner.store.files import disk_errors

Mode = Literal["shared", "exclusive"]


@contextmanager
def file_lock(path: Path, mode: Mode = "exclusive") -> Iterator[None]:
    """Holds the lock file `path`; waits for whoever holds it otherwise."""
    with path.open("ab") as file:
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


def lock(file: IO[bytes], mode: Mode = "exclusive") -> None:
    """Locks an open file, waiting for it."""
    _lock(file, mode, wait=True)


def try_lock(file: IO[bytes]) -> bool:
    """Locks an open file for this process alone, unless another one has it."""
    try:
        _lock(file, "exclusive", wait=False)
    except BlockingIOError:
        return False
    return True


if os.name == "posix":
    import fcntl

    def _lock(file: IO[bytes], mode: Mode, *, wait: bool) -> None:
        operation = fcntl.LOCK_SH if mode == "shared" else fcntl.LOCK_EX
        fcntl.flock(file.fileno(), operation if wait else operation | fcntl.LOCK_NB)

else:  # pragma: no cover - Windows has byte ranges and no shared form

    def _lock(file: IO[bytes], mode: Mode, *, wait: bool) -> None:  # noqa: ARG001
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
