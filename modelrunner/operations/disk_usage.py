"""What the store takes on disk, kind by kind."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


def usage(store: Store) -> DiskUsage:
    """Measures the store; views share their bytes with the blobs and count nothing."""
    found = leftovers(store, partials=True)
    live = live_digests(store) or frozenset()
    paths = [store.blobs.path(digest) for digest in live]
    size = sum(path.stat().st_size for path in paths if path.exists())
    # a journal belongs to its download
    stopped = [entry for entry in found if entry.path.suffix != ".journal"]
    entries = (
        Usage("Models", len(store.models()), size, 0),
        _of(stopped, "Incomplete downloads", "partial"),
        _of(found, "Unreferenced blobs", "blob"),
        _of(found, "Temporary files", "temporary"),
    )
    folder = store.layout.root
    while not folder.exists():
        folder = folder.parent
    return DiskUsage(store.layout.root, entries, shutil.disk_usage(folder).free)


def _of(found: Sequence[Leftover], name: str, kind: str) -> Usage:
    sizes = [entry.size for entry in found if entry.kind == kind]
    return Usage(name, len(sizes), sum(sizes), sum(sizes))
