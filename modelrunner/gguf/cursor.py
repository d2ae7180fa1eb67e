"""A position in a GGUF header that moves forward only and cannot be talked into reading too much.

Any source will do that returns `length` bytes from `offset`: a file, or an HTTP server asked for
ranges. The cursor holds a window of it and downloads the next one in growing steps, so that a small
header costs little and a large one few requests.
"""

import struct
from collections.abc import Callable
from operator import length_hint

from modelrunner.errors import Fact, HeaderTooLongError, MalformedGGUFError
from modelrunner.units import format_size

Read = Callable[[int, int], bytes]

_FIRST_STEP = 256 * 1024
_LARGEST_STEP = 4 * 1024 * 1024
_LENGTH = struct.Struct("<Q")


class Cursor:
    """Reads forward through a source, within its size and a limit.

    Args:
        read: Returns bytes from an offset, at most as many as asked; fewer only at the end.
        size: Bytes that the whole source has, if that is known.
        limit: Bytes from the start beyond which nothing is read.
        name: What the source is called in messages.
    """

    def __init__(self, read: Read, size: int | None, *, limit: int, name: str) -> None:
        self._read = read
        self._size = size
        self._limit = limit
        self._name = name
        self._window = b""
        self._base = 0  # where in the source the window starts
        self._at = 0  # where in the window the next byte is
        self._step = _FIRST_STEP

    @property
    def position(self) -> int:
        """How many bytes lie behind."""
        return self._base + self._at

    def malformed(
        self, message: str, *, hint: str | None = None, **facts: Fact
    ) -> MalformedGGUFError:
        """The error that names the source, to be raised."""
        return MalformedGGUFError(f"{self._name}: {message}", hint=hint, **facts)

    def require(self, count: int) -> None:
        """Check that `count` more bytes can be there, before anything is made for them.

        Raises:
            MalformedGGUFError: The source ends before.
            HeaderTooLongError: The limit is reached.
        """
        end = self.position + count
        if self._size is not None and end > self._size:
            raise self._cut_off(end - self._size)
        if end > self._limit:
            raise HeaderTooLongError(f"{self._name}: the header exceeds {format_size(self._limit)}")

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if self._at + count > len(self._window):
            self._fill(count)
        start = self._at
        self._at += count
        return self._window[start : self._at]

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """The next numbers, laid out as the struct says."""
        if self._at + layout.size > len(self._window):
            self._fill(layout.size)
        numbers = layout.unpack_from(self._window, self._at)
        self._at += layout.size
        return numbers

    def skip(self, count: int) -> None:
        """Move past `count` bytes; those outside the window are never downloaded."""
        self.require(count)
        self._at += count

    def skip_strings(self, count: int) -> None:
        """Move past `count` strings, each a 64-bit length and its bytes.

        A vocabulary has hundreds of thousands of them: this loop is where a header's time goes.
        """
        length_at = _LENGTH.unpack_from
        self.require(count * _LENGTH.size)
        while count:
            window, at = self._window, self._at
            strings = iter(range(count))
            try:
                for _ in strings:
                    at += 8 + length_at(window, at)[0]
                count = 0
            except (struct.error, OverflowError):
                # the window ends before the next one's length does
                count = length_hint(strings) + 1
            self.skip(at - self._at)
            if count:
                self._fill(_LENGTH.size)

    def _fill(self, count: int) -> None:
        """Make the window start here and hold at least `count` bytes."""
        self.require(count)
        held = self._window[self._at :]
        end = self._limit if self._size is None else min(self._limit, self._size)
        self._base, self._at = self.position, 0
        wanted = min(max(count, self._step), end - self._base)
        self._step = min(self._step * 2, _LARGEST_STEP)
        pieces, here = [held], len(held)
        while here < count:
            # a source may give less than asked, but not more: whatever exceeds is not ours
            piece = self._read(self._base + here, wanted - here)[: wanted - here]
            if not piece:
                raise self._cut_off(count - here)
            pieces.append(piece)
            here += len(piece)
        self._window = b"".join(pieces)

    def _cut_off(self, missing: int) -> MalformedGGUFError:
        return self.malformed(
            f"truncated header: at least {format_size(missing)} missing",
            hint="download the file again",
            missing_bytes=missing,
        )
