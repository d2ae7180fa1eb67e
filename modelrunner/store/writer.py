"""A blob on its way into the store: the file in which it arrives, and what writes and hashes it.

Each file is locked by the process that fills it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from modelrunner.disk.clones import copy_data
from modelrunner.disk.files import disk_error, disk_errors, flush, is_of_disk, temporary_beside
from modelrunner.disk.inside import (
    READ_ONLY,
    InsideFile,
    is_for_a_group,
    make_new,
    open_inside,
)
from modelrunner.disk.lock import lock, lock_new, try_lock
from modelrunner.errors import DigestMismatchError, SizeMismatchError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.hashing import SideHash
from modelrunner.store.layout import Layout
from modelrunner.store.stamps import CHUNK, looks, write_new_stamp


class BlobWriter:
    """One blob on its way into the store; made by `BlobStore.writer`.

    `offset` is how much is there. Bytes are appended with `write`; `resume_at` says where the
    stream that follows begins, which may be the start when a server knows no ranges.
    """

    def __init__(self, file: IO[bytes], path: Path, descriptor: Descriptor) -> None:
        self._file = file
        self._path = path
        self._descriptor = descriptor
        self._hash = SideHash()
        self.offset = 0

    def recover(self) -> None:
        """Takes over what an earlier try has left, hashing it; too long is worth nothing."""
        size = os.fstat(self._file.fileno()).st_size
        if size > self._descriptor.size:
            self._start_anew()
            return
        self._file.seek(0)
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        while self.offset < size:
            count = self._file.readinto(buffer)  # type: ignore[attr-defined]
            if not count:
                break
            self._hash.add(view[:count])
            self._hash.settle()
            self.offset += count

    def resume_at(self, offset: int) -> None:
        """Tells where the bytes that follow belong.

        Raises:
            ValueError: Neither the start nor where the last byte was written.
        """
        if offset == self.offset:
            return
        if offset != 0:
            raise ValueError(f"cannot append a stream from byte {offset} after {self.offset} bytes")
        self._start_anew()

    def _start_anew(self) -> None:
        self._file.seek(0)
        self._file.truncate(0)
        self._hash = SideHash()
        self.offset = 0

    def write(self, chunk: bytes | memoryview) -> None:
        """Appends bytes.

        Raises:
            SizeMismatchError: More than the descriptor says.
            DiskFullError: No space left; what was written stays.
        """
        if self.offset + len(chunk) > self._descriptor.size:
            raise SizeMismatchError(
                f"{self._descriptor.digest}: expected {self._descriptor.size} bytes, got more",
                digest=str(self._descriptor.digest),
                expected_bytes=self._descriptor.size,
            )
        with disk_errors(self._path):
            view, written = memoryview(chunk), 0
            try:
                while written < len(view):
                    written += self._file.write(view[written:])
            finally:
                # unbuffered: what a full disk took is counted, hashed and kept
                self._hash.add(view[:written])
                self.offset += written
                if not isinstance(chunk, bytes):
                    # the caller may fill it again
                    self._hash.settle()

    def check(self) -> None:
        """Compares size and digest with the descriptor.

        Raises:
            SizeMismatchError: Bytes are missing.
            DigestMismatchError: The content is not what was asked for.
        """
        if self.offset != self._descriptor.size:
            raise SizeMismatchError(
                f"{self._descriptor.digest}: unexpected end after {self.offset} of "
                f"{self._descriptor.size} bytes",
                digest=str(self._descriptor.digest),
                expected_bytes=self._descriptor.size,
                got_bytes=self.offset,
            )
        got = Digest(self._hash.hexdigest())
        if got != self._descriptor.digest:
            raise DigestMismatchError(
                f"expected {self._descriptor.digest}, got {got}",
                hint="try again, or pull from another registry or mirror; nothing was stored",
                expected=str(self._descriptor.digest),
                got=str(got),
            )


class NewFiles:
    """Makes the files of many small blobs: one that is new needs the fewest looks at the disk."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._of_a_group = False
        self._journals: set[str] = set()
        # what cannot be looked at is said where it is used
        with suppress(OSError):
            # asked once, and not for each of thousands
            self._of_a_group = is_for_a_group(layout.ingest) or is_for_a_group(layout.stamps)
            with os.scandir(layout.ingest) as entries:
                self._journals = {each.name for each in entries if each.name.endswith(".journal")}

    def make(self, digest: Digest) -> "NewFile | None":
        """A new file for a blob, locked for this process; to be used as a context manager.

        None where the usual way, `BlobStore.arrival`, has to be gone: the blob or a part of it is
        there, another process brings it, or the store is not a usual one.
        """
        name = digest.hex
        partial, path = f"{self._layout.ingest}/{name}.partial", f"{self._layout.blobs}/{name}"
        # in a directory of a group each new file has to be for the group
        if self._of_a_group or f"{name}.journal" in self._journals:
            return None
        try:
            handle = make_new(partial)
        except OSError:
            return None
        try:
            if (
                lock_new(handle)
                # as in `locked_file`: whoever was faster may have named or removed it by now
                and os.path.samestat(os.lstat(partial), os.fstat(handle))
                and not os.access(path, os.F_OK)
            ):
                made = NewFile(handle, self._layout, digest, partial, path)
                handle = -1
                return made
        except OSError:
            pass
        finally:
            if handle >= 0:
                os.close(handle)
        return None


class NewFile:
    """A file in which a small blob arrives from its front; leaving it in peace names the blob.

    What `BlobStore.arrival` promises holds here too, but that the name lasts: `BlobStore.settle`
    sees to that, for many. There is no journal: whatever is there is the front of the blob.

    Attributes:
        handle: Of the open file, for reading and writing.
        partial: Its path.
    """

    __slots__ = ("_digest", "_layout", "_path", "handle", "partial")

    def __init__(
        self, handle: int, layout: Layout, digest: Digest, partial: str, path: str
    ) -> None:
        self.handle = handle
        self.partial = partial
        self._path = path
        self._layout = layout
        self._digest = digest

    def __enter__(self) -> "NewFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._publish()
            elif (
                isinstance(error, DigestMismatchError | SizeMismatchError)
                or os.fstat(self.handle).st_blocks == 0
            ):
                os.unlink(self.partial)  # noqa: PTH108 - as text: one of thousands
        except OSError as exc:
            if not is_of_disk(exc) or isinstance(exc, FileNotFoundError):
                raise
            raise disk_error(exc, Path(self.partial)) from exc
        finally:
            # which frees the lock: nobody else has had a hand in the file until now
            os.close(self.handle)

    def _publish(self) -> None:
        flush(self.handle)
        found = os.fstat(self.handle)
        # where the owner and the file system let it, see `make_read_only`
        with suppress(OSError):
            os.fchmod(self.handle, READ_ONLY)
        # replaces a damaged blob in the same step
        os.replace(self.partial, self._path)  # noqa: PTH105 - as text: one of thousands
        write_new_stamp(self._layout, self._digest, looks(found))


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
        # complete and made read-only, by a process that ended before it gave it its name
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
