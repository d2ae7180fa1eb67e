"""The bytes of stored blobs on their way into an archive, hashed as they go by."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from modelrunner.disk.files import disk_error
from modelrunner.disk.inside import open_content
from modelrunner.errors import CorruptStoreError
from modelrunner.events import Advanced, Listener, ignore
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.hashing import PIECE, SideHash, buffers
from modelrunner.store.stamps import remove_stamp
from modelrunner.store.store import Store, StoredModel, missing


@dataclass(frozen=True, slots=True)
class Contents:
    """Blobs of a store.

    Attributes:
        store: The store.
        owners: For each blob a model that needs it.
    """

    store: Store
    owners: Mapping[Digest, StoredModel]

    def require(self, blob: Descriptor) -> None:
        """Check that a blob is there, without reading it.

        Raises:
            CorruptStoreError: It is missing, or has another size.
            StoreAccessError: The disk does not deliver it.
        """
        with self._reading(blob):
            size = self.store.blobs.path(blob.digest).stat().st_size
        if size != blob.size:
            raise self._lost(blob)

    def read(self, blob: Descriptor, listener: Listener = ignore) -> Iterator[memoryview]:
        """Yield a blob's bytes, exactly as many as promised.

        A piece stays as it is until `PENDING` more have come, see `SideHash`.

        Raises:
            CorruptStoreError: It is missing or damaged.
            StoreAccessError: The disk does not deliver it.
        """
        hasher, done = SideHash(), 0
        with self._reading(blob):
            file = open_content(self.store.blobs.path(blob.digest))
        with file:
            for buffer in buffers(min(PIECE, blob.size)):
                with self._reading(blob):
                    count = file.readinto(buffer[: blob.size - done])
                if not count:
                    break
                done += count
                hasher.add(buffer[:count])
                yield buffer[:count]
                listener(Advanced(str(blob.digest), blob.size, done))
        if done != blob.size or hasher.hexdigest() != blob.digest.hex:
            # the next look at it shall not trust what is noted
            remove_stamp(self.store.layout, blob.digest)
            raise self._lost(blob)

    @contextmanager
    def _reading(self, blob: Descriptor) -> Iterator[None]:
        """The block in which a blob is read: one that is not there is not a disk that fails."""
        path = self.store.blobs.path(blob.digest)
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as exc:
            raise self._lost(blob) from exc
        except OSError as exc:
            raise disk_error(exc, path) from exc

    def _lost(self, blob: Descriptor) -> CorruptStoreError:
        return missing(self.owners[blob.digest], blob)
