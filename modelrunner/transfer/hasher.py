"""Hashes the front of an arriving blob while its later pieces are still landing.

One thread reads back what is there without a gap, out of the page cache, in blocks that fit into a
processor's cache; hashlib lets other threads run meanwhile. When the last piece lands, only that
piece is left to hash.
"""

import os
from hashlib import sha256
from threading import Event, Thread

from modelrunner.oci.digest import Digest
from modelrunner.transfer.pieces import Pieces

_BLOCK = 1024 * 1024
_PATIENCE_S = 0.2


class FrontHasher:
    """Follows the pieces of one blob with a hash of its front."""

    def __init__(self, handle: int, pieces: Pieces) -> None:
        self._handle = handle
        self._pieces = pieces
        self._stop = Event()
        self._error: OSError | None = None
        self._hash = sha256()
        self._hashed = 0
        self._thread = Thread(target=self._follow, name="hasher", daemon=True)
        self._thread.start()

    def digest(self) -> Digest:
        """The digest of the whole blob; waits until all of it is hashed.

        Raises:
            OSError: The file cannot be read.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return Digest(self._hash.hexdigest())

    def stop(self) -> None:
        """Ends the thread, finished or not."""
        self._stop.set()
        with self._pieces.changed:
            self._pieces.changed.notify_all()
        self._thread.join()

    def _follow(self) -> None:
        buffer = bytearray(_BLOCK)
        try:
            while self._hashed < self._pieces.size and not self._stop.is_set():
                front = self._pieces.front_bytes()
                if front <= self._hashed:
                    with self._pieces.changed:
                        self._pieces.changed.wait(_PATIENCE_S)
                    continue
                self._catch_up(front, buffer)
        except OSError as exc:
            self._error = exc

    def _catch_up(self, front: int, buffer: bytearray) -> None:
        view = memoryview(buffer)
        while self._hashed < front and not self._stop.is_set():
            wanted = min(_BLOCK, front - self._hashed)
            count = os.preadv(self._handle, [view[:wanted]], self._hashed)
            if count == 0:
                raise OSError(f"the partial file ends at {self._hashed}")
            self._hash.update(view[:count])
            self._hashed += count
