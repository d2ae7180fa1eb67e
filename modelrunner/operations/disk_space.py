"""Room on a disk, looked for before anything moves: for all that is to come."""

import os
from _thread import allocate_lock
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from modelrunner.disk.files import nearest_existing
from modelrunner.errors import DiskFullError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.store import Store
from modelrunner.units import format_size

_MARGIN = 64 * 1024 * 1024
"""Room that is left for everybody else on the disk."""

_MAKE_ROOM = (
    "free some space (`modelrunner df`, `modelrunner prune`), or set MODELRUNNER_HOME to"
    " a larger disk"
)


class Room:
    """What pulls of one process expect; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._expected: dict[Digest, Descriptor] = {}
        self._lock = allocate_lock()

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
            missing, expected = _missing(store, list(own.values())), _missing(store, others)
            if missing > 0:
                needed = missing + expected
                also = f", and {format_size(expected)} of other models" if expected else ""
                require_room(
                    store.layout.root,
                    needed,
                    f"{format_size(missing)} more are needed{also}",
                    spare=min(_MARGIN, needed),
                )
            self._expected |= own
        try:
            yield
        finally:
            with self._lock:
                for digest in own:
                    self._expected.pop(digest, None)


def require_room(
    folder: Path, needed: int, why: str, *, spare: int = 0, hint: str = _MAKE_ROOM
) -> None:
    """Says no before gigabytes are written.

    Args:
        folder: Where they are to go; it need not be there yet.
        needed: How many bytes.
        why: What needs them, for the message.
        spare: Bytes that have to stay free beside them.
        hint: What to do.

    Raises:
        DiskFullError: The disk has less.
    """
    free = free_bytes(folder)
    if free is not None and needed + spare > free:
        kept = f" ({format_size(spare)} are kept free)" if spare else ""
        raise DiskFullError(
            f"not enough disk space: {format_size(free)} free, {why}{kept}",
            hint=hint,
            free_bytes=free,
            needed_bytes=needed,
            path=str(folder),
        )


def require_room_for_copies(store: Store, size: int) -> None:
    """Says no before files are copied into a store, see `require_room`.

    Args:
        store: Where to.
        size: Of all of them, in bytes.
    """
    why = f"{format_size(size)} to copy"
    require_room(store.layout.root, size, why, spare=min(_MARGIN, size))


def free_bytes(folder: Path) -> int | None:
    """Returns how much room a disk has; None where its file system does not know."""
    try:
        # `shutil` asks the same, and takes longer to load than this whole package
        room = os.statvfs(nearest_existing(folder))
    except OSError:
        return None
    return room.f_bavail * room.f_frsize


def _missing(store: Store, entries: Sequence[Descriptor]) -> int:
    """Bytes of absent blobs that no earlier try has left."""
    return sum(entry.size - store.blobs.partial_bytes(entry) for entry in entries)
