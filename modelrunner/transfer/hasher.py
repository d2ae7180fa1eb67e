"""Hashes the front of an arriving blob while its later pieces are still landing.

One thread does it; hashlib lets other threads run meanwhile. A block that continues what is hashed
is handed over in memory, with its buffer, as soon as it is written. What lands further on is read
back out of the page cache when its turn comes. When the last piece lands, only that piece is left
to hash.
"""

import os
from hashlib import sha256
from queue import Empty, SimpleQueue
from threading import Thread

from modelrunner.oci.digest import Digest
from modelrunner.transfer.pieces import Pieces, Run

BLOCK = 4 * 1024 * 1024
"""Bytes of a buffer: fewer and larger reads and writes take less of the kernel."""

_DEPTH = 4
_PATIENCE_S = 0.05

_Block = tuple[int, bytearray, int]
"""The history that a block belongs to, its buffer, and how much of that is filled."""


class FrontHasher:
    """Follows the pieces of one blob with a hash of its front."""

    def __init__(self, handle: int, pieces: Pieces) -> None:
        self._handle = handle
        self._pieces = pieces
        self._stopped = False
        self._error: OSError | None = None
        self._hash = sha256()
        self._hashed = 0
        self._history = pieces.history
        # None wakes the thread
        self._handed: SimpleQueue[_Block | None] = SimpleQueue()
        self._spare: SimpleQueue[bytearray] = SimpleQueue()
        self._unmade = _DEPTH
        self._thread = Thread(target=self._follow, name="hasher", daemon=True)
        self._thread.start()

    def digest(self) -> Digest:
        """The digest of the whole blob; waits until all of it is hashed.

        Raises:
            OSError: The file cannot be read.
        """
        self._handed.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return Digest(self._hash.hexdigest())

    def stop(self) -> None:
        """Ends the thread, finished or not."""
        self._stopped = True
        self._handed.put(None)
        self._thread.join()

    def hand(self, run: Run, buffer: bytearray, count: int) -> bool:
        """Moves a run on that has written `count` bytes of a buffer; whether that is taken over.

        A block whose turn it is is taken over with its buffer; `another` has the next one.
        """
        pieces = self._pieces
        with pieces.changed:
            taken = (
                self._thread.is_alive()
                and not run.lost
                and self._history == pieces.history
                and run.reached == pieces.hashed
            )
            if taken:
                self._handed.put((pieces.history, buffer, count))
                pieces.hashed += count
            # in one step with the above: else it would be read back before it is handed over
            run.reached += count
        return taken

    def another(self, size: int) -> bytearray:
        """A buffer of at least `size` bytes in the place of one that was taken over.

        While too many of them wait to be hashed, so does the connection: the blob is complete only
        when all of it is hashed, and what is still in memory need not be read back.
        """
        with self._pieces.changed:
            if self._unmade and self._spare.empty():
                self._unmade -= 1
                return bytearray(size)
        while self._thread.is_alive():
            try:
                spare = self._spare.get(timeout=_PATIENCE_S)
            except Empty:
                continue
            if len(spare) >= size:
                return spare
            break
        return bytearray(size)

    def _follow(self) -> None:
        own = bytearray(BLOCK)
        try:
            while not self._stopped and self._hashed < self._pieces.size:
                if self._take(0.0) or self._read_back(own):
                    continue
                # what comes next is handed over, for it comes right after what is hashed
                self._take(_PATIENCE_S)
        except OSError as exc:
            self._error = exc

    def _take(self, patience_s: float) -> bool:
        """Hashes the block that was handed over first; whether there was one."""
        try:
            handed = self._handed.get(timeout=patience_s) if patience_s else self._next()
        except Empty:
            return False
        if handed is None:
            return False
        history, buffer, count = handed
        if history == self._history:
            self._hash.update(memoryview(buffer)[:count])
            self._hashed += count
        self._spare.put(buffer)
        return True

    def _next(self) -> _Block | None:
        return self._handed.get_nowait()

    def _read_back(self, buffer: bytearray) -> bool:
        """Hashes a block of the file; whether one was there to be hashed."""
        pieces = self._pieces
        with pieces.changed:
            if self._history != pieces.history:
                # bytes that went into the hash are downloaded again
                self._history = pieces.history
                self._hash = sha256()
                self._hashed = pieces.hashed = 0
            wanted = min(len(buffer), pieces.front_bytes() - self._hashed)
            if wanted <= 0 or pieces.hashed > self._hashed:
                # what was handed over meanwhile comes first
                return pieces.hashed > self._hashed
            pieces.hashed += wanted
        view = memoryview(buffer)
        while wanted:
            count = os.preadv(self._handle, [view[:wanted]], self._hashed)
            if count == 0:
                raise OSError(f"the partial file ends at {self._hashed}")
            self._hash.update(view[:count])
            self._hashed += count
            wanted -= count
        return True
