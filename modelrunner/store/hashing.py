"""SHA-256 of bytes on another core, while the same bytes are written and the next are read."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelrunner.oci.digest import sha256

if TYPE_CHECKING:
    import hashlib
    from concurrent.futures import Future, ThreadPoolExecutor

PENDING = 2
"""Pieces that may not have been hashed yet after one was added."""

PIECE = 1024 * 1024
"""Bytes of a piece that are hashed from the cache of the processor that has read them."""

_WORTH_A_THREAD = 256 * 1024
"""Bytes from which on it is faster to wake another thread."""


def buffers(size: int = PIECE) -> Iterator[memoryview]:
    """Buffers to fill in turn, without end: each piece stays as it is while it may be hashed.

    Args:
        size: Bytes of each.
    """
    made: deque[memoryview] = deque()
    for _ in range(PENDING + 1):
        made.append(memoryview(bytearray(size)))
        yield made[-1]
    while True:
        yield made[0]
        made.rotate(-1)


class SideHash:
    """A SHA-256 that is taken beside what else is done with the bytes.

    Args:
        state: What `state` returned after the bytes that it goes on with; None for the start.
    """

    def __init__(self, state: "hashlib._Hash | None" = None) -> None:
        self._hash = sha256() if state is None else state.copy()
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[Future[None]] = deque()

    def add(self, piece: bytes | memoryview) -> None:
        """Hash bytes that stay as they are until `PENDING` more pieces were added."""
        if not self._pending and len(piece) < _WORTH_A_THREAD:
            self._hash.update(piece)
            return
        if self._pool is None:
            # most commands write no large files, and do not wait for this
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1)
        self._pending.append(self._pool.submit(self._hash.update, piece))
        while len(self._pending) > PENDING:
            self._pending.popleft().result()

    def settle(self) -> None:
        """Wait until all that was added is hashed: it may change then."""
        while self._pending:
            self._pending.popleft().result()

    def state(self) -> "hashlib._Hash":
        """Return the state after all bytes that were added, to go on from there later."""
        self.settle()
        return self._hash.copy()

    def hexdigest(self) -> str:
        """Return the digest of all bytes that were added."""
        self.settle()
        return self._hash.hexdigest()
