"""The blobs that were fetched for others: kept up to a size, the least recently used thrown away.

They lie in a store of their own, in the cache's directory, so nothing that a user has pulled is
ever thrown away here, and no command shows what is here as the user's. A blob's stamp says by its
time when the blob was last used. One process at a time has the cache.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Self

from modelrunner.disk.files import disk_errors
from modelrunner.disk.lock import open_lock, try_lock
from modelrunner.errors import (
    CapacityError,
    ConfigError,
    DiskFullError,
    MalformedManifestError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.blobs import BlobStore
from modelrunner.store.layout import Layout
from modelrunner.units import format_size


class BlobCache:
    """The cache; all methods may be called from any thread.

    Args:
        folder: Its directory.
        limit: The most bytes to keep.
        on_evicted: Called with the size of each blob that is thrown away.

    Raises:
        ConfigError: Another process has it.
        StoreAccessError, DiskFullError: It cannot be written.
    """

    def __init__(
        self, folder: Path, limit: int, on_evicted: Callable[[int], None] = lambda _size: None
    ) -> None:
        self.layout = Layout.under(folder)
        self.limit = limit
        self._on_evicted = on_evicted
        self.layout.create()
        self.blobs = BlobStore(self.layout)
        self._lock = RLock()
        self._coming: dict[str, int] = {}
        with disk_errors(self.layout.root):
            self._owner = open_lock(self.layout.root / "share.lock")
            if not try_lock(self._owner):
                self._owner.close()
                raise ConfigError(
                    f"another `modelrunner share` uses the cache {self.layout.root}",
                    hint="stop it, or set MODELRUNNER_STATE to another directory",
                    path=str(self.layout.root),
                )
            self._partial = self._left_over()
            # the least recently used first
            self._sizes: OrderedDict[str, int] = OrderedDict(self._there())
        self._make_room(0)

    def close(self) -> None:
        """Lets others have it."""
        self._owner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes of what is here, and of what is on its way."""
        with self._lock:
            return sum(
                sum(entries.values()) for entries in (self._sizes, self._partial, self._coming)
            )

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a blob is here and right; notes that it is used."""
        with self._lock:
            known = descriptor.digest.hex in self._sizes
        if not known:
            return False
        if self.blobs.state(descriptor) != "good":
            # it is downloaded again, and replaced then
            self._forget(descriptor.digest.hex)
            return False
        self.use(descriptor.digest)
        return True

    def size_of(self, digest: Digest) -> int | None:
        """The bytes of a blob; None where it is not here."""
        with self._lock:
            return self._sizes.get(digest.hex)

    def use(self, digest: Digest) -> None:
        """Note that a blob is used now."""
        with self._lock:
            if digest.hex not in self._sizes:
                return
            self._sizes.move_to_end(digest.hex)
        with suppress(OSError):
            os.utime(self.layout.stamp(digest))

    def put(self, descriptor: Descriptor, content: bytes) -> None:
        """File a manifest.

        Raises:
            CapacityError, DiskFullError, StoreAccessError: There is no room for it.
        """
        with self.arriving(descriptor):
            self.blobs.put(descriptor, content)

    @contextmanager
    def arriving(self, descriptor: Descriptor) -> Iterator[None]:
        """The block in which a blob arrives: room is made before it, and counted after it.

        Raises:
            CapacityError: It is larger than the cache, or everything else is in use.
        """
        name = descriptor.digest.hex
        with self._lock:
            # what an earlier try has left is a part of it
            self._partial.pop(name, None)
            self._sizes.pop(name, None)
            self._make_room(descriptor.size)
            self._coming[name] = descriptor.size
        try:
            yield
        except DiskFullError:
            # others need the disk too: the next try finds room
            with self._lock:
                before = self.size
                while before - self.size < descriptor.size and self._evict():
                    pass
            raise
        finally:
            with self._lock:
                self._coming.pop(name, None)
                self._count(descriptor.digest)

    def _count(self, digest: Digest) -> None:
        """Account for what there is of a blob that has arrived, or has not."""
        with suppress(FileNotFoundError):
            self._sizes[digest.hex] = self.layout.blob(digest).stat().st_size
            return
        with suppress(FileNotFoundError):
            self._partial[digest.hex] = _blocks(self.layout.partial(digest))

    def _make_room(self, size: int) -> None:
        with self._lock:
            if size > self.limit:
                raise CapacityError(
                    f"a blob of {format_size(size)} does not fit the cache of "
                    f"{format_size(self.limit)}",
                    hint="raise --cache-size",
                )
            while self.size + size > self.limit and self._evict():
                pass
            if self.size + size > self.limit:
                raise CapacityError(
                    f"no room in the cache of {format_size(self.limit)}: everything is in use",
                    hint="raise --cache-size, or try again later",
                )

    def _evict(self) -> bool:
        """Throws one away: what was not finished, then what was not used for longest."""
        for name in [*self._partial, *self._sizes]:
            if name not in self._coming:
                size = self._partial.get(name, 0) or self._sizes.get(name, 0)
                self._remove(name)
                self._on_evicted(size)
                return True
        return False

    def _remove(self, name: str) -> None:
        digest = Digest(name)
        self._forget(name)
        with disk_errors(self.layout.root):
            for path in (
                self.layout.partial(digest),
                self.layout.journal(digest),
                self.layout.blob(digest),
                *self.layout.notes(name),
            ):
                path.unlink(missing_ok=True)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._partial.pop(name, None)
            self._sizes.pop(name, None)

    def _there(self) -> list[tuple[str, int]]:
        found = []
        for path in self.layout.blobs.iterdir():
            with suppress(OSError, MalformedManifestError):
                digest = Digest(path.name)
                stamp = self.layout.stamp(digest)
                used = (stamp if stamp.exists() else path).stat().st_mtime_ns
                found.append((used, path.name, path.stat().st_size))
        return [(name, size) for _used, name, size in sorted(found)]

    def _left_over(self) -> dict[str, int]:
        found = []
        for path in self.layout.ingest.glob("*.partial"):
            with suppress(OSError, MalformedManifestError):
                found.append((path.stat().st_mtime_ns, Digest(path.stem).hex, _blocks(path)))
        return {name: size for _used, name, size in sorted(found)}


def _blocks(path: Path) -> int:
    # what a sparse file says it has is not what it takes
    found = path.stat()
    return min(found.st_size, getattr(found, "st_blocks", 0) * 512)
