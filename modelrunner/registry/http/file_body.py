"""Part of a file as the body of a request: in large pieces, by the kernel where that can be.

`requests` and `http.client` read a file in blocks of 16 KiB, at which the sender waits for itself
more than for the network. Here the body is a sequence of slices. Our connections hand a slice to
the kernel where they are plain (`sendfile`: the bytes are never copied into this process); others,
those through a proxy for one, iterate over its bytes.

To a registry on this machine, `sendfile` only leaves the work to the registry: that copies page by
page what is in no cache, in between hashing, and has one processor for one upload. There the bytes
are copied here, in blocks that stay in a cache, as long as there is a second processor for each
upload: where all of them are busy, the copy is what the others wait for.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from io import FileIO
from socket import socket
from threading import Lock
from typing import NamedTuple

from modelrunner.disk.inside import open_content
from modelrunner.errors import CorruptStoreError
from modelrunner.registry.source import Framed, Outflow

PIECE = 1024 * 1024
"""Bytes that are read at once where the kernel cannot send a file by itself."""

_NEAR_PIECE = PIECE // 4
"""Bytes of a block on this machine: as many as the cache of one processor holds twice."""

_SPARE = (os.cpu_count() or 1) // 2
"""Uploads that have two processors each: one for the registry, and one to copy for it."""

_SLICE = 8 * PIECE
"""Bytes between two reports of progress."""


class Frame(NamedTuple):
    """Bytes around a file.

    Attributes:
        head: Bytes that come before it.
        tail: Bytes that come after it.
        tail_at: Where those begin.
    """

    head: bytes = b""
    tail: bytes = b""
    tail_at: int = 0


class FileContent:
    """A blob that an upload reads from a file, and from what is put around it.

    Args:
        framed: The file.
        size: The bytes of the blob.
    """

    def __init__(self, framed: Framed, size: int) -> None:
        self._path = framed.path
        self._frame = Frame(framed.before, framed.after, size - len(framed.after))

    @contextmanager
    def opened(self) -> Iterator["OpenFile"]:
        """The block in which it is open."""
        with nullcontext() if self._path is None else open_content(self._path) as file:
            yield OpenFile(file, self._frame)

    def has_other_place(self) -> bool:
        """There is only this one."""
        return False


class OpenFile:
    """A file that an upload reads."""

    def __init__(self, file: FileIO | None, frame: Frame) -> None:
        self._file = file
        self._frame = frame

    def body(self, begin: int, end: int, flow: Outflow) -> "FileBody":
        """Its bytes from `begin` to `end` (exclusive)."""
        return FileBody(
            self._file,
            begin,
            end,
            before=flow.before,
            after=flow.on_sent,
            block=flow.block,
            frame=self._frame,
        )


class FileBody:
    """Bytes of an open file from `begin` to `end`; each iteration starts again.

    Positions are those of the whole: bytes that come before the file count.

    Args:
        file: The file; its position is not kept. None where there is nothing but a frame's head.
        begin: The first byte.
        end: The one after the last.
        before: Called with the size of each slice before it is sent; may wait, and may raise.
        after: Called after each slice with the position that was reached.
        block: The size of slices; None for one that is efficient.
        frame: What is sent around the file.
    """

    def __init__(
        self,
        file: FileIO | None,
        begin: int,
        end: int,
        *,
        before: Callable[[int], None],
        after: Callable[[int], None],
        block: int | None = None,
        frame: Frame | None = None,
    ) -> None:
        self._file = file
        self._head, self._tail, self._tail_at = frame or Frame(tail_at=end)
        self._begin = begin
        self._end = end
        self._before = before
        self._after = after
        self._block = block or _SLICE

    def __len__(self) -> int:
        return self._end - self._begin

    def __iter__(self) -> Iterator["FileSlice | BytesSlice"]:
        position = self._begin
        while position < self._end:
            part, count = self._slice(position, min(self._block, self._end - position))
            self._before(count)
            yield part
            position += count
            self._after(position)

    def _slice(self, position: int, count: int) -> "tuple[FileSlice | BytesSlice, int]":
        """The next bytes from a position on, at most so many; and how many they are."""
        begin = len(self._head)
        if position < begin or self._file is None:
            piece = self._head[position : position + count]
        elif position < self._tail_at:
            count = min(count, self._tail_at - position)
            return FileSlice(self._file, position - begin, count), count
        else:
            piece = self._tail[position - self._tail_at :][:count]
        return BytesSlice(piece), len(piece)


class BytesSlice:
    """Some bytes that are not of a file, on their way."""

    def __init__(self, piece: bytes) -> None:
        self._piece = piece

    def __iter__(self) -> Iterator[bytes]:
        yield self._piece

    def send(self, connection: socket) -> None:
        """Send them over a connection.

        Raises:
            OSError: The connection is lost.
        """
        connection.sendall(self._piece)


class FileSlice:
    """Some bytes of a file, on their way."""

    def __init__(self, file: FileIO, offset: int, count: int) -> None:
        self._file = file
        self._offset = offset
        self._count = count

    def __iter__(self) -> Iterator[memoryview]:
        return self._pieces(PIECE)

    def _pieces(self, most: int) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(min(most, self._count)))
        offset, end = self._offset, self._offset + self._count
        while offset < end:
            count = self._read(buffer[: end - offset], offset)
            if not count:
                raise _shorter(self._file)
            yield buffer[:count]
            offset += count

    def send(self, connection: socket) -> None:
        """Send it over a connection: by the kernel where it leaves the machine as it is.

        Raises:
            CorruptStoreError: The file has become shorter.
            OSError: The connection is lost.
        """
        if hasattr(connection, "getpeercert"):
            # it encrypts what it sends
            for piece in self:
                connection.sendall(piece)
        else:
            with _going as others:
                if others < _SPARE and _is_near(connection):
                    for piece in self._pieces(_NEAR_PIECE):
                        connection.sendall(piece)
                elif connection.sendfile(self._file, self._offset, self._count) != self._count:
                    raise _shorter(self._file)

    def _read(self, buffer: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [buffer], offset)
        self._file.seek(offset)
        block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


class _Going:
    """The slices that are being sent, by all threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0

    def __enter__(self) -> int:
        """Count one more; how many others there are."""
        with self._lock:
            self._count += 1
            return self._count - 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._count -= 1


_going = _Going()


def _is_near(connection: socket) -> bool:
    """Whether a connection ends on this machine: at the address where it begins."""
    try:
        return bool(connection.getpeername()[:1] == connection.getsockname()[:1])
    except OSError:
        # the other side is gone, which the next send finds out
        return False


def _shorter(file: FileIO) -> CorruptStoreError:
    return CorruptStoreError(
        f"{file.name} became shorter while it was sent",
        hint="run `modelrunner verify`, and pull the model again if it is damaged",
    )
