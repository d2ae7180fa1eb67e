"""SHA-256 of bytes on another core, while the same bytes are written."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelrunner.oci.digest import sha256

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_WORTH_A_THREAD = 256 * 1024
"""Bytes from which on it is faster to wake another thread."""


class SideHash:
    """A SHA-256 that is taken beside what is done with the bytes."""

    def __init__(self) -> None:
        self._hash = sha256()
        self._pool: ThreadPoolExecutor | None = None

    @contextmanager
    def beside(self, chunk: bytes | memoryview) -> Iterator[None]:
        """The block in which bytes are used, and hashed; if it raises, they do not count.

        The bytes may be overwritten after the block.
        """
        if len(chunk) < _WORTH_A_THREAD:
            yield
            self._hash.update(chunk)
            return
        if self._pool is None:
            # most commands write no large files, and do not wait for this
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1)
        after = self._hash.copy()
        hashed = self._pool.submit(after.update, chunk)
        try:
            yield
        finally:
            hashed.result()
        self._hash = after

    def update(self, chunk: bytes | memoryview) -> None:
        """Hash bytes at once."""
        self._hash.update(chunk)

    def hexdigest(self) -> str:
        """Return the digest of all bytes that count."""
        return self._hash.hexdigest()
