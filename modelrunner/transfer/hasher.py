"""Hashes the front of an arriving blob while its later pieces are still landing.

One thread does it; hashlib lets other threads run meanwhile. A block that continues what is hashed
is handed over in memory as soon as it is written. What lands further on is read back out of the
page cache when its turn comes. When the last piece lands, only that piece is left to hash.
"""

import os
from collections import deque
from hashlib import sha256
from threading import Event, Thread

from modelrunner.oci.digest import Digest
from modelrunner.transfer.pieces import Pieces, Run

_BLOCK = 1024 * 1024
_DEPTH = 8
_PATIENCE_S = 0.05


class FrontHasher:
    """Follows the pieces of one blob with a hash of its front."""

    def __init__(self, handle: int, pieces: Pieces) -> None:
        self._handle = handle
        self._pieces = pieces
        self._stop = Event()
        self._wake = Event()
        self._error: OSError | None = None
        self._hash = sha256()
        self._hashed = 0
        self._history = pieces.history
        self._handed: deque[tuple[bytearray, int]] = deque()
        self._spare: list[bytearray] = []
        self._thread = Thread(target=self._follow, name="hasher", daemon=True)
        self._thread.start()

    def digest(self) -> Digest:
        """The digest of the whole blob; waits until all of it is hashed.

        Raises:
            OSError: The file cannot be read.
        """
        self._wake.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return Digest(self._hash.hexdigest())

    def stop(self) -> None:
        """Ends the thread, finished or not."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def hand(self, run: Run, buffer: bytearray, count: int) -> bytearray:
        """Moves a run on that has written `count` bytes of a buffer; what to read into next.

        A block whose turn it is is taken over with its buffer. While too many of them wait, so
        does the connection: the blob is complete only when all of it is hashed, and what is still
        in memory need not be read back.
        """
        pieces = self._pieces
        with pieces.changed:
            while self._is_next(run) and len(self._handed) >= _DEPTH:
                pieces.taken.wait(_PATIENCE_S)
            if self._is_next(run):
                self._handed.append((buffer, count))
                pieces.hashed += count
                buffer = self._spare.pop() if self._spare else bytearray(len(buffer))
            # in one step with the above: else it would be read back before it is handed over
            run.reached += count
        self._wake.set()
        return buffer

    def _is_next(self, run: Run) -> bool:
        pieces = self._pieces
        alive = not run.lost and self._thread.is_alive()
        return alive and self._history == pieces.history and run.reached == pieces.hashed

    def _follow(self) -> None:
        own = bytearray(_BLOCK)
        try:
            while not self._stop.is_set():
                self._wake.clear()
                if self._take_handed() or self._read_back(own):
                    continue
                if self._hashed == self._pieces.size:
                    return
                self._wake.wait(_PATIENCE_S)
        except OSError as exc:
            self._error = exc

    def _take_handed(self) -> bool:
        """Hashes the block that was handed over first; whether there was one."""
        with self._pieces.changed:
            self._begin_anew()
            if not self._handed:
                return False
            buffer, count = self._handed.popleft()
        self._hash.update(memoryview(buffer)[:count])
        self._hashed += count
        with self._pieces.changed:
            self._spare.append(buffer)
            self._pieces.taken.notify()
        return True

    def _read_back(self, buffer: bytearray) -> bool:
        """Hashes a block of the file; whether one was there to be hashed."""
        front = self._pieces.front_bytes()
        with self._pieces.changed:
            wanted = min(len(buffer), front - self._hashed)
            if self._handed or self._history != self._pieces.history or wanted <= 0:
                # what was handed over meanwhile comes first
                return bool(self._handed) or self._history != self._pieces.history
            self._pieces.hashed += wanted
        view = memoryview(buffer)
        while wanted:
            count = os.preadv(self._handle, [view[:wanted]], self._hashed)
            if count == 0:
                raise OSError(f"the partial file ends at {self._hashed}")
            self._hash.update(view[:count])
            self._hashed += count
            wanted -= count
        return True

    def _begin_anew(self) -> None:
        """Forgets the hash where bytes that went into it are downloaded again."""
        if self._history != self._pieces.history:
            self._history = self._pieces.history
            self._hash = sha256()
            self._hashed = self._pieces.hashed = 0
            self._handed.clear()
