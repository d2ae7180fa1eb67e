"""The body of a request as a file that a thread reads, however large it is.

At most a few megabytes of it are in memory: while a reader is slow, nothing more is taken from the
client.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_MOST_HELD = 4 * 1024 * 1024


class _ClosedError(Exception):
    """The request has ended before its body did."""


@dataclass(slots=True)
class BodyStream:
    """What has come of a body, and has not been read."""

    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    # one buffer: pieces of a byte each would take sixty times theirs
    _held: bytearray = field(default_factory=bytearray)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _error: BaseException | None = None
    _ended: bool = False

    def read(self, size: int, /) -> bytes:
        """In a thread: return at most this many bytes, none at the end of the body.

        Raises:
            RefusalError: The body does not come in time.
            GoneError: The client went away.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._ended or self._error is not None)
            if self._error is not None:
                raise self._error
            full = len(self._held) > _MOST_HELD
            piece = bytes(self._held[:size])
            del self._held[:size]
            has_room = full and len(self._held) <= _MOST_HELD
        if has_room:
            # a loop that has ended fills nothing more
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._room.set)
        return piece

    async def fill(self, pieces: AsyncIterator[bytes]) -> None:
        """Take pieces as they come, and as fast as they are read."""
        try:
            async for piece in pieces:
                with self._changed:
                    self._held += piece
                    self._room.clear()
                    full = len(self._held) > _MOST_HELD
                    self._changed.notify()
                if full:
                    await self._room.wait()
        except Exception as exc:  # noqa: BLE001 - raised where the body is read
            self.fail(exc)
            return
        with self._changed:
            self._ended = True
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """Let the reader fail; what has come is of no use any more."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify()


@asynccontextmanager
async def streaming(pieces: AsyncIterator[bytes]) -> AsyncIterator[BodyStream]:
    """The block in which a thread may read a body; a reader that is late fails."""
    stream = BodyStream()
    filling = asyncio.create_task(stream.fill(pieces))
    try:
        yield stream
    finally:
        filling.cancel()
        stream.fail(_ClosedError())
        await asyncio.gather(filling, return_exceptions=True)
