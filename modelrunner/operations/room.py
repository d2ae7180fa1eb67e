"""Room on the store's disk, looked for before anything moves: for all that is to come."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from modelrunner.errors import DiskFullError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.store import Store
from modelrunner.units import format_size

_MARGIN = 64 * 1024 * 1024
"""Room that is left for everybody else on the disk."""


class Room:
    """What pulls of one process expect; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._expected: dict[Digest, Descriptor] = {}
        self._lock = Lock()

    @contextmanager
    def taken(self, store: Store, absent: Sequence[Descriptor]) -> Iterator[None]:
        """The block in which blobs arrive.

        Raises:
            DiskFullError: There is not room enough for them and for what others expect.
        """
        own = {entry.digest: entry for entry in absent}
        with self._lock:
            others = [
                entry
                for digest, entry in self._expected.items()
                if digest not in own and not store.blobs.path(digest).exists()
            ]
            _require(store, _missing(store, list(own.values())), _missing(store, others))
            self._expected |= own
        try:
            yield
        finally:
            with self._lock:
                for digest in own:
                    self._expected.pop(digest, None)


def _require(store: Store, missing: int, others: int) -> None:
    free = shutil.disk_usage(_existing(store.layout.root)).free
    needed = missing + others
    if missing == 0 or needed + min(_MARGIN, needed) <= free:
        return
    also = f", and {format_size(others)} of other models" if others else ""
    raise DiskFullError(
        f"the disk has {format_size(free)} left, and {format_size(missing)} are missing{also}",
        hint="free some space (`modelrunner df`, `modelrunner prune`), or set MODELRUNNER_HOME to"
        " a larger disk",
        free_bytes=free,
        needed_bytes=needed,
        path=str(store.layout.root),
    )


def _missing(store: Store, entries: Sequence[Descriptor]) -> int:
    """Bytes of absent blobs that no earlier try has left."""
    return sum(entry.size - store.blobs.partial_bytes(entry) for entry in entries)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
