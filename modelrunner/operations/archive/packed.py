"""A compressed archive, unpacked into a file without a name: what is read of it out of order.

The file is gone with the process that has it, however that ends.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from modelrunner.archives.compression import Packing
from modelrunner.disk.files import cannot_write
from modelrunner.errors import DiskFullError, IntegrityError
from modelrunner.operations.archive.source import Unpacked
from modelrunner.operations.disk_space import free_bytes
from modelrunner.units import format_size

_CHUNK = 1024 * 1024
_RATIO, _SMALL = 100, 64 * 1024 * 1024
"""How many times larger an archive may be unpacked; small ones may be more."""

_SPARE = 256 * 1024 * 1024
_LOOKS = 64
"""Pieces that are written between two looks at what is free."""


def unpack_archive(
    read: Callable[[int], bytes], how: Packing, size: int, folder: Path | None
) -> int:
    """Return the handle of a file with what was packed; the caller closes it.

    Args:
        read: Returns packed bytes, up to a number of them, none at the end.
        how: How they are packed.
        size: How many they are.
        folder: Where the file takes room; None for the system's place for temporary files.

    Raises:
        IntegrityError: It is damaged, or unpacks to far more than an archive of models would.
        DiskFullError: There is no room.
    """
    place = folder if folder is not None and folder.is_dir() else Path(tempfile.gettempdir())
    most = max(_SMALL, size * _RATIO)
    stream, written, pieces = Unpacked(read, how), 0, 0
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            while piece := stream.read(_CHUNK):
                written += len(piece)
                if written > most:
                    raise IntegrityError(
                        f"the archive unpacks to more than {format_size(most)}, {_RATIO} times its "
                        "size"
                    )
                if pieces % _LOOKS == 0:
                    _require_room(place, written)
                pieces += 1
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest) :]
            return os.dup(file.fileno())
    except OSError as exc:
        raise cannot_write(exc, str(place)) from exc


def _require_room(place: Path, written: int) -> None:
    free = free_bytes(place)
    if free is not None and free < _SPARE:
        raise DiskFullError(
            f"not enough disk space: {format_size(free)} free, {format_size(written)} of the "
            "archive are unpacked by now",
            hint="free some space, or decompress the archive on another disk and name the tar",
            free_bytes=free,
            path=str(place),
        )
