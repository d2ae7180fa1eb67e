"""Blobs on disk: how they arrive, and whether those that are there are right.

A blob arrives in `ingest/<hex>.partial`, is hashed while it arrives, and gets its name in
`blobs/sha256/` only when size and digest are right: half a blob is never visible. What is in
`ingest/` when a process dies is where the next one goes on.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modelrunner.disk.files import (
    disk_errors,
    flush,
    remove_abandoned,
    sync_directory,
    temporary_beside,
)
from modelrunner.disk.inside import (
    InsideFile,
    make_directory,
    make_read_only,
    read_content,
)
from modelrunner.errors import CorruptStoreError, DigestMismatchError, SizeMismatchError
from modelrunner.frozen import frozen
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.layout import Layout
from modelrunner.store.stamps import hash_file, is_stamped, look, remove_stamp, write_stamp

# late imports: what reads blobs loads nothing that writes them
if TYPE_CHECKING:
    from modelrunner.store.writer import BlobWriter, NewFiles

State = Literal["absent", "damaged", "good"]


def _wait_in_silence() -> None:
    pass


@frozen
class Arrival:
    """A blob's file on its way into the store, locked for this process.

    Attributes:
        file: Open for reading and writing, unbuffered.
        partial: Its path.
        journal: Where to note which parts of it are there; gone when the blob is complete.
    """

    file: InsideFile
    partial: Path
    journal: Path

    def reset(self) -> None:
        """Forgets what is there."""
        # in this order: a journal without a file does no harm, a file full of holes would
        self.file.truncate(0)
        self.journal.unlink(missing_ok=True)

    def remove(self) -> None:
        """Takes it off the disk."""
        self.partial.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)


class BlobStore:
    """The blobs of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    @property
    def layout(self) -> Layout:
        """The places of the store."""
        return self._layout

    def path(self, digest: Digest) -> Path:
        """Where a blob lies, whether it is there or not."""
        return self._layout.blob(digest)

    def state(self, descriptor: Descriptor) -> State:
        """Whether a blob is there and right: by its stamp, else by hashing it."""
        path = self.path(descriptor.digest)
        try:
            found = path.stat()
        except FileNotFoundError:
            return "absent"
        if found.st_size != descriptor.size:
            return "damaged"
        if is_stamped(self._layout, descriptor.digest, found):
            return "good"
        return self.deep_state(descriptor)

    def deep_state(
        self, descriptor: Descriptor, on_bytes: Callable[[int], None] = lambda _count: None
    ) -> State:
        """Whether a blob is there and right, by reading every byte; `on_bytes` hears of them."""
        path = self.path(descriptor.digest)
        try:
            looked = look(path)
            size = path.stat().st_size
            if size != descriptor.size or hash_file(path, on_bytes) != descriptor.digest:
                remove_stamp(self._layout, descriptor.digest)
                return "damaged"
        except FileNotFoundError:
            return "absent"
        write_stamp(self._layout, descriptor.digest, looked)
        return "good"

    def tidy(self, descriptor: Descriptor) -> None:
        """Removes what is left of the arrival of a blob that is here and right.

        Whoever gave it its name may have been killed in the next moment.
        """
        with suppress(OSError):
            self._layout.journal(descriptor.digest).unlink()

    def set_aside(self, descriptor: Descriptor) -> Path | None:
        """Moves a damaged blob to where no pull counts on it; where it lies now.

        None where that is not to be done: it is gone or right by now, or is being downloaded again.

        Raises:
            StoreAccessError, DiskFullError: The store cannot be written.
        """
        from modelrunner.disk.lock import try_lock
        from modelrunner.store.writer import is_still, open_partial

        digest = descriptor.digest
        partial, aside = self._layout.partial(digest), self._layout.quarantine / digest.hex
        with disk_errors(self._layout.root):
            self._layout.create()
            make_directory(aside.parent)
            with open_partial(partial) as file:
                # whoever gives a blob its name holds this lock: nobody does meanwhile
                if not try_lock(file) or not is_still(partial, file):
                    return None
                damaged = self._is_damaged(descriptor)
                if damaged:
                    self.path(digest).replace(aside)
                if os.fstat(file.fileno()).st_size == 0:
                    partial.unlink()
                return aside if damaged else None

    def _is_damaged(self, descriptor: Descriptor) -> bool:
        try:
            return self.state(descriptor) == "damaged"
        except OSError:
            # a disk that does not deliver it
            return True

    def read(self, descriptor: Descriptor, limit: int = 4 * 1024 * 1024) -> bytes:
        """A small blob as bytes, verified.

        Raises:
            CorruptStoreError: It is missing, too large, or not what its name says.
        """
        path = self.path(descriptor.digest)
        try:
            content = read_content(path, limit + 1)
        except FileNotFoundError as exc:
            raise CorruptStoreError(
                f"blob missing from the local store: {descriptor.digest}",
                hint="pull the model again: only missing blobs are downloaded",
                digest=str(descriptor.digest),
            ) from exc
        if len(content) != descriptor.size or Digest.of(content) != descriptor.digest:
            raise CorruptStoreError(
                f"damaged blob in the local store: {descriptor.digest}",
                hint="pull the model again: damaged blobs are downloaded again",
                digest=str(descriptor.digest),
            )
        return content

    def partial_bytes(self, descriptor: Descriptor) -> int:
        """How much of an absent blob is here from an earlier try."""
        try:
            # as text: one of thousands
            partial = f"{self._layout.ingest}/{descriptor.digest.hex}.partial"
            size = os.stat(partial).st_size  # noqa: PTH116
        except FileNotFoundError:
            return 0
        journal = self._layout.journal(descriptor.digest)
        if journal.exists():
            from modelrunner.store.journal import noted_bytes

            return noted_bytes(journal, descriptor.size)
        return size if size <= descriptor.size else 0

    def put(self, descriptor: Descriptor, content: bytes) -> None:
        """Files bytes from memory, verified like any other.

        Raises:
            IntegrityError: They are not what the descriptor says.
        """
        with self.writer(descriptor) as writer:
            if writer is not None:
                writer.resume_at(0)
                writer.write(content)

    @contextmanager
    def writer(
        self, descriptor: Descriptor, *, resumable: bool = True
    ) -> "Iterator[BlobWriter | None]":
        """The block in which a blob arrives from its start to its end, see `arrival`.

        Args:
            descriptor: The blob.
            resumable: Whether what arrived before the block raised is kept, and built upon; else
                the blob comes in one go, or nothing of it stays.

        Raises:
            DigestMismatchError, SizeMismatchError: What arrived is wrong, and removed.
            DiskFullError, StoreAccessError: It cannot be written.
        """
        from modelrunner.store.writer import BlobWriter

        with self.arrival(descriptor) as arrival:
            if arrival is None:
                yield None
                return
            writer = BlobWriter(arrival.file, arrival.partial, descriptor)
            if arrival.journal.exists() or not resumable:
                # pieces from here and there: no front to go on from
                arrival.reset()
            writer.recover()
            try:
                yield writer
                writer.check()
            except BaseException:
                if not resumable:
                    arrival.remove()
                raise

    @contextmanager
    def arrival(
        self,
        descriptor: Descriptor,
        on_wait: Callable[[], None] = _wait_in_silence,
        *,
        one_of_many: bool = False,
    ) -> Iterator[Arrival | None]:
        """The block in which a blob arrives; leaving it in peace gives the blob its name.

        Whoever fills the file makes sure that its content is right before the block ends. Yields
        None where the blob already exists, maybe because another process has just finished it:
        this one has waited, and called `on_wait` before. If the block raises, what arrived is kept,
        unless it turned out to be wrong.

        Args:
            descriptor: The blob.
            on_wait: Called before this one waits for another process; may raise.
            one_of_many: Whether `settle` will make the name last, together with others, before
                anything refers to it.

        Raises:
            DiskFullError, StoreAccessError: It cannot be written.
        """
        from modelrunner.store.writer import locked_file

        partial = self._layout.partial(descriptor.digest)
        with ExitStack() as stack:
            with disk_errors(partial):
                file = stack.enter_context(locked_file(partial, on_wait))
                arrival = Arrival(file, partial, self._layout.journal(descriptor.digest))
                there = self.state(descriptor) == "good"
                if there:
                    arrival.remove()
            if there:
                yield None
                return
            try:
                yield arrival
            except (DigestMismatchError, SizeMismatchError):
                arrival.remove()
                raise
            except BaseException:
                if os.fstat(file.fileno()).st_blocks == 0:
                    arrival.remove()
                raise
            with disk_errors(partial):
                self._publish(file, partial, descriptor.digest, settled=not one_of_many)

    def new_files(self) -> "NewFiles":
        """What makes the files of many small blobs of which nothing is there yet."""
        from modelrunner.store.writer import NewFiles

        return NewFiles(self._layout)

    def settle(self) -> None:
        """Makes the names of blobs last through a power cut, see `arrival`.

        Raises:
            DiskFullError, StoreAccessError: The disk cannot keep them.
        """
        with disk_errors(self._layout.blobs):
            sync_directory(self._layout.blobs)

    def has_one_of(self, size: int) -> bool:
        """Whether any blob has this size."""
        with suppress(FileNotFoundError), os.scandir(self._layout.blobs) as entries:
            return any(entry.stat().st_size == size for entry in entries)
        return False

    @contextmanager
    def unnamed(self) -> Iterator[Path]:
        """The block in which a file arrives whose digest is not known yet, at a free path.

        It is gone at the end, unless `adopt` has given it a blob's name; what processes that were
        killed have left of theirs goes before.

        Raises:
            DiskFullError, StoreAccessError: The store cannot be written.
        """
        place = self._layout.ingest / "copy"
        with disk_errors(place):
            self._layout.create()
            remove_abandoned(place)
        beside = temporary_beside(place)
        try:
            yield beside
        finally:
            beside.unlink(missing_ok=True)

    def adopt(self, descriptor: Descriptor, make: Callable[[Path], bool]) -> bool | None:
        """Gives a whole file a blob's name; None where the blob already exists.

        Args:
            descriptor: The blob.
            make: Makes the file, which is known to be right, under a name, if it can.

        Raises:
            DiskFullError, StoreAccessError: It cannot be kept.
        """
        from modelrunner.store.writer import locked_file

        path, partial = self.path(descriptor.digest), self._layout.partial(descriptor.digest)
        beside = temporary_beside(partial)
        with disk_errors(partial), locked_file(partial, _wait_in_silence) as file:
            arrival = Arrival(file, partial, self._layout.journal(descriptor.digest))
            if self.state(descriptor) == "good":
                arrival.remove()
                return None
            try:
                if not make(beside):
                    if os.fstat(file.fileno()).st_blocks == 0:
                        arrival.remove()
                    return False
                looked = look(beside)
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
            sync_directory(self._layout.blobs)
            write_stamp(self._layout, descriptor.digest, looked)
            arrival.remove()
        return True

    def _publish(self, file: InsideFile, partial: Path, digest: Digest, *, settled: bool) -> None:
        flush(file.fileno())
        looked = look(partial)
        make_read_only(file, partial)
        # replaces a damaged blob in the same step
        partial.replace(self.path(digest))
        if settled:
            sync_directory(self._layout.blobs)
        write_stamp(self._layout, digest, looked)
        self._layout.journal(digest).unlink(missing_ok=True)
