"""The journal of an arriving blob: which pieces are on disk and need not be downloaded again.

A line of JSON with the blob's size and the pieces', then four bytes for each finished piece,
appended after the piece was written. A journal that is cut short, or ahead of the data after a
power cut, does no harm: pieces it does not know are downloaded again, and what it wrongly claims
the digest finds out.
"""

import json
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from modelrunner.disk.files import disk_errors
from modelrunner.disk.inside import open_inside, read_inside
from modelrunner.store.writer import take_over
from modelrunner.wire import parse_json

_ENTRY = struct.Struct("<I")
_VERSION = 1


class Journal:
    """An open journal."""

    def __init__(self, path: Path, size: int, piece: int) -> None:
        self._path = path
        self._size, self._piece = size, piece
        self._header = json.dumps({"version": _VERSION, "size": size, "piece": piece}).encode()
        with disk_errors(path):
            try:
                self._file = open_inside(path, "append")
            except PermissionError:
                # of another user of the store, who let others only read
                take_over(path)
                self._file = open_inside(path, "append")

    def load(self) -> list[int]:
        """The finished pieces that are noted; a journal of another blob is begun again.

        One of another piece size, of an earlier version, is rewritten.
        """
        with disk_errors(self._path):
            self._file.seek(0)
            header, newline, rest = self._file.content().partition(b"\n")
        piece = _piece_of(header, self._size) if newline else None
        if piece == self._piece:
            return _entries(rest)
        self.reset()
        if piece is None:
            return []
        noted = _recut(set(_entries(rest)), piece, self._size, self._piece)
        self.add(*noted)
        return noted

    def add(self, *indexes: int) -> None:
        """Notes pieces that are on disk."""
        with disk_errors(self._path):
            self._file.write(b"".join(map(_ENTRY.pack, indexes)))

    def reset(self) -> None:
        """Begins again: nothing is finished."""
        with disk_errors(self._path):
            self._file.truncate(0)
            self._file.write(self._header + b"\n")

    def close(self) -> None:
        """Closes the file; it stays for the next try."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def noted_bytes(path: Path, size: int) -> int:
    """How many bytes of a blob of this size a journal says are there; 0 without one."""
    try:
        header, _newline, rest = read_inside(path).partition(b"\n")
    except OSError:
        return 0
    piece = _piece_of(header, size)
    if piece is None:
        return 0
    return sum(max(0, min(piece, size - index * piece)) for index in set(_entries(rest)))


def _piece_of(header: bytes, size: int) -> int | None:
    """The piece size that a header names; None where it is not that of a blob of this size."""
    try:
        value = parse_json(header)
        piece = value["piece"]
        if value["size"] != size or value["version"] != _VERSION or type(piece) is not int:
            return None
    except (ValueError, KeyError, TypeError):
        return None
    return piece if piece > 0 else None


def _entries(rest: bytes) -> list[int]:
    whole = len(rest) - len(rest) % _ENTRY.size
    return [entry[0] for entry in _ENTRY.iter_unpack(rest[:whole])]


def _recut(noted: set[int], old: int, size: int, new: int) -> list[int]:
    """The pieces of a new size that lie in noted ones of an old size."""
    found = []
    for index in range(-(-size // new)):
        start, end = index * new, min((index + 1) * new, size)
        if all(at in noted for at in range(start // old, -(-end // old))):
            found.append(index)
    return found
