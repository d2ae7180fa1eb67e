"""An OCI image layout that lies in a directory, read as the archive that it would make."""

import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelrunner.disk.inside import open_inside
from modelrunner.errors import IntegrityError, ModelRunnerError, UsageError
from modelrunner.oci.manifest import MAX_BYTES
from modelrunner.oci.tar import Readable
from modelrunner.operations.archive.index import entries_of
from modelrunner.text import os_hint, os_reason

_CHUNK = 1024 * 1024
_HEX = re.compile(r"[0-9a-f]{64}")


def is_layout(folder: Path) -> bool:
    """Whether a directory holds an image layout."""
    return (folder / "oci-layout").is_file() and (folder / "index.json").is_file()


@contextmanager
def open_layout(folder: Path) -> Iterator[tuple[Readable, int]]:
    """The block in which a layout is read as a tar; with the number of its bytes.

    Raises:
        UsageError: A file of it cannot be read.
        IntegrityError: One is a link, or shrinks while it is read.
    """
    files = _files(folder)
    try:
        size = sum((folder / name).lstat().st_size for name in files)
    except OSError as exc:
        raise _unreadable(folder, exc) from exc
    yield _Tar(_members(folder, files)), size


def _files(folder: Path) -> list[str]:
    """The files of a layout; those first that tell which of the others are needed."""
    blobs = folder / "blobs" / "sha256"
    try:
        found = sorted(path.name for path in blobs.iterdir() if _HEX.fullmatch(path.name))
    except OSError as exc:
        raise _unreadable(folder, exc) from exc
    first: list[str] = []
    # what is wrong with it is told by whoever takes it
    with suppress(OSError, ModelRunnerError), open_inside(folder / "index.json", "read") as file:
        first = [entry.digest.hex for entry in entries_of(file.content(MAX_BYTES + 1))]
    ordered = dict.fromkeys((*(name for name in first if name in set(found)), *found))
    return ["oci-layout", "index.json", *(f"blobs/sha256/{name}" for name in ordered)]


def _members(folder: Path, files: list[str]) -> Iterator[bytes]:
    for name in files:
        try:
            opened = open_inside(folder / name, "read")
        except OSError as exc:
            if (folder / name).is_symlink():
                raise IntegrityError(
                    f"{folder / name} is a symbolic link, not a file",
                    hint="copy the layout with its files: `cp -rL`",
                ) from exc
            raise _unreadable(folder, exc) from exc
        with opened as file:
            member = tarfile.TarInfo(name)
            left = member.size = os.fstat(file.fileno()).st_size
            yield member.tobuf()
            while left:
                try:
                    chunk = file.read(min(_CHUNK, left))
                except OSError as exc:
                    raise _unreadable(folder, exc) from exc
                if not chunk:
                    raise IntegrityError(f"{folder / name} was truncated while it was read")
                left -= len(chunk)
                yield chunk
        yield bytes(-member.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


class _Tar:
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, size: int, /) -> bytes:
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._held = piece
        found, self._held = self._held[:size], self._held[size:]
        return found


def _unreadable(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot read {error.filename or folder}: {os_reason(error)}", hint=os_hint(error)
    )
