"""What the store takes on disk, kind by kind."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from modelrunner.errors import IntegrityError
from modelrunner.oci.digest import Digest
from modelrunner.runtime.images.library import Installed, Library
from modelrunner.store.referrers import reached
from modelrunner.store.store import Store
from modelrunner.store.sweep import Leftover, leftovers, live_digests


@dataclass(frozen=True, slots=True)
class Usage:
    """One kind of thing on disk; sizes in bytes."""

    kind: str
    count: int
    size: int
    reclaimable: int


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """The whole store, and what is free on its disk."""

    path: Path
    entries: tuple[Usage, ...]
    free: int

    def to_dict(self) -> dict[str, object]:
        """The usage as JSON has it."""
        return {
            "path": str(self.path),
            "free_bytes": self.free,
            "total_bytes": sum(entry.size for entry in self.entries),
            "reclaimable_bytes": sum(entry.reclaimable for entry in self.entries),
            "types": [
                {
                    "type": entry.kind,
                    "count": entry.count,
                    "size_bytes": entry.size,
                    "reclaimable_bytes": entry.reclaimable,
                }
                for entry in self.entries
            ],
        }


def usage(store: Store, library: Library | None = None) -> DiskUsage:
    """Measures the store; views share their bytes with the blobs and count nothing.

    Args:
        store: The store.
        library: The installed runtimes, which are measured with their images.
    """
    found = leftovers(store, partials=True)
    live = live_digests(store) or frozenset()
    of_images = _blobs_of_images(store)
    count, referring = _referrers(store)
    referring -= of_images
    size = _size(store, live - of_images - referring)
    # a journal belongs to its download
    stopped = [entry for entry in found if entry.path.suffix != ".journal"]
    # blobs that were removed while a view without a model had them
    held = (replace(entry, kind="blob") for entry in found if entry.kind == "view" and entry.size)
    unreferenced = [*found, *held]
    runtimes = [] if library is None else library.all()
    entries = (
        Usage("Models", len(store.models()), size, 0),
        *([Usage("Referrers", count, _size(store, referring), 0)] if count else ()),
        *_runtimes(store, runtimes, of_images & live),
        _of(stopped, "Incomplete downloads", "partial"),
        _of(unreferenced, "Unreferenced blobs", "blob"),
        _of(found, "Temporary files", "temporary"),
    )
    folder = store.layout.root
    while not folder.exists():
        folder = folder.parent
    return DiskUsage(store.layout.root, entries, shutil.disk_usage(folder).free)


def _blobs_of_images(store: Store) -> frozenset[Digest]:
    found: set[Digest] = set()
    for image in store.images():
        # one that is damaged is found by `verify`
        with suppress(IntegrityError):
            found |= {image.digest, *(blob.digest for blob in image.manifest.blobs)}
    return frozenset(found)


def _referrers(store: Store) -> tuple[int, set[Digest]]:
    """What is kept because it refers to models: how much of it, and its blobs."""
    count, found = 0, set()
    for model in store.everything():
        count += len(model.referrers)
        found |= {blob.digest for blob in reached(store.blobs, model.descriptor)}
    for model in store.everything():
        # what a model needs itself is of the model
        with suppress(IntegrityError):
            found -= {model.digest, *(blob.digest for blob in model.manifest.blobs)}
    return count, found


def _runtimes(
    store: Store, runtimes: Sequence[Installed], blobs: frozenset[Digest]
) -> Iterator[Usage]:
    """What runtimes take: their files, and their images, which other machines are served."""
    if runtimes or blobs:
        unpacked = sum(one.unpacked_bytes for one in runtimes)
        count = max(len(runtimes), len(store.images()))
        yield Usage("Runtimes", count, unpacked + _size(store, blobs), 0)


def _size(store: Store, digests: Iterable[Digest]) -> int:
    paths = [store.blobs.path(digest) for digest in digests]
    return sum(path.stat().st_size for path in paths if path.exists())


def _of(found: Sequence[Leftover], name: str, kind: str) -> Usage:
    sizes = [entry.size for entry in found if entry.kind == kind]
    return Usage(name, len(sizes), sum(sizes), sum(sizes))
