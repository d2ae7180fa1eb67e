"""Files in a layer that is far away: what there is, and parts of them, without unpacking it.

A plain tar is read by ranges: header after header, and of a file what is asked for. What is packed
can be read from its front alone: up to the first large file that is wanted, and of that its front.
Nothing of either is trusted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from tarfile import BLOCKSIZE, REGULAR_TYPES

from modelrunner.archives.compression import HEAD, packing_of, unpacked
from modelrunner.errors import HeaderTooLongError, IntegrityError, UnsupportedArtifactError
from modelrunner.oci.tar import TarEntries, TarErrors
from modelrunner.units import format_size

Read = Callable[[int, int], bytes]
"""Returns bytes from an offset, up to a number of them."""

PACKED_LIMIT = 64 * 1024 * 1024
"""Bytes of the front of a packed layer that are read at most."""

_WINDOW = 64 * 1024
_MOST_WINDOWS = 64
_FIRST, _LARGEST = 256 * 1024, 4 * 1024 * 1024
_SMALL = 4 * 1024 * 1024
"""Wanted files of packed layers up to this size are read whole, and what follows them is seen."""

_HELD, _OF_A_MEMBER = 64 * 1024 * 1024, 4096
"""Bytes that are held of the layers of a model, and that each file counts for beside its own."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a layer.

    Attributes:
        name: Its path there, as it is written.
        size: Its bytes.
        read: Reads parts of it; raises `HeaderTooLongError` beyond what can be read.
    """

    name: str
    size: int
    read: Read = field(repr=False)


@dataclass(frozen=True, slots=True)
class Members:
    """What was found in a layer.

    Attributes:
        files: Those that are wanted.
        is_complete: Whether there are no others.
    """

    files: tuple[Member, ...]
    is_complete: bool


@dataclass(slots=True)
class Room:
    """How much more may be held of a model, whose layers share it.

    Attributes:
        left: In bytes.
    """

    left: int = _HELD

    def has(self, size: int) -> bool:
        """Take the room for `size` bytes of a file; False where there is too little."""
        size += _OF_A_MEMBER
        if size > self.left:
            return False
        self.left -= size
        return True


def find_members(
    read: Read, size: int, wanted: Callable[[str], bool], room: Room | None = None
) -> Members:
    """Return the files of a layer that are wanted, as far as they can be found without all of it.

    Args:
        read: Reads parts of the layer.
        size: Its bytes.
        wanted: Whether a file is, by its path.
        room: What may be held of it, and of other layers of the model.

    Raises:
        IntegrityError: It is not a tar, or a damaged one.
        UnsupportedArtifactError: It has sparse files.
    """
    room = room or Room()
    how = packing_of(read(0, HEAD))
    if how is None:
        return _in_plain(read, size, wanted, room)
    front = _Front(read, size)
    packed = _Unpacked(unpacked(front.read, how, _damaged))
    return _in_packed(packed, front, wanted, room)


def _in_plain(read: Read, size: int, wanted: Callable[[str], bool], room: Room) -> Members:
    window = _Window(read, size)
    found: list[Member] = []
    entries = TarEntries(window, _ERRORS, ends_early=True)
    while window.count <= _MOST_WINDOWS:
        try:
            entry = entries.next()
        except _LimitError:
            break
        if entry is None:
            return Members(tuple(found), is_complete=True)
        if entry.block.type not in REGULAR_TYPES:
            continue
        begin = window.position
        if begin + entry.size > size:
            raise _ERRORS.cut()
        if wanted(entry.name):
            if not room.has(0):
                break
            found.append(Member(entry.name, entry.size, _part(read, begin, entry.size)))
        window.position = begin + entry.size + -entry.size % BLOCKSIZE
    return Members(tuple(found), is_complete=False)


def _part(read: Read, begin: int, size: int) -> Read:
    return lambda offset, length: read(begin + offset, max(0, min(length, size - offset)))


def _in_packed(
    stream: "_Unpacked", front: "_Front", wanted: Callable[[str], bool], room: Room
) -> Members:
    entries = TarEntries(stream, _ERRORS, ends_early=True)
    found: list[Member] = []
    while not front.is_over:
        try:
            entry = entries.next()
        except _LimitError:
            break
        if entry is None:
            return Members(tuple(found), is_complete=True)
        entries.enter(entry.size if entry.block.type in REGULAR_TYPES else 0)
        if entry.block.type not in REGULAR_TYPES or not wanted(entry.name):
            continue
        is_large = entry.size > _SMALL
        if not room.has(0 if is_large else entry.size):
            break
        lazy = _Lazy(entries.chunks())
        found.append(Member(entry.name, entry.size, lazy.read))
        if is_large:
            # what follows is behind gigabytes
            break
        lazy.read(0, entry.size)
    return Members(tuple(found), is_complete=False)


class _LimitError(Exception):
    """The front of a packed layer has been read."""


class _Window:
    """A layer that is read on from anywhere, some kilobytes at once.

    Attributes:
        position: Where it is read next.
        count: How often it was asked for some.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._begin, self._held = 0, b""
        self.position = 0
        self.count = 0

    def read(self, size: int, /) -> bytes:
        """Read on."""
        if not self._begin <= self.position < self._begin + len(self._held):
            if self.position >= self._size:
                return b""
            self.count += 1
            self._begin = self.position
            self._held = self._read(self._begin, min(_WINDOW, self._size - self._begin))
            if not self._held:
                # a source without parts has its front alone
                raise _LimitError
        at = self.position - self._begin
        found = self._held[at : at + size]
        self.position += len(found)
        return found


class _Front:
    """The packed bytes of a layer, from its front to a limit, more at once each time.

    Attributes:
        is_over: Whether the limit was reached.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._position, self._step = 0, _FIRST
        self._held = memoryview(b"")
        self.is_over = False

    def read(self, size: int, /) -> bytes:
        """Read on."""
        if not self._held and self._position < self._size:
            if self._position >= PACKED_LIMIT:
                self.is_over = True
                raise _LimitError
            found = self._read(self._position, min(self._step, self._size - self._position))
            if not found:
                raise _LimitError
            self._position += len(found)
            self._step = min(self._step * 2, _LARGEST)
            self._held = memoryview(found)
        found, self._held = bytes(self._held[:size]), self._held[size:]
        return found


class _Unpacked:
    """What was packed, as a tar is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._left = PACKED_LIMIT * 4

    def read(self, size: int, /) -> bytes:
        """Read on."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left -= len(piece)
            if self._left < 0:
                raise _LimitError
            self._rest = memoryview(piece)
        found, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return found


class _Lazy:
    """The front of a file, read as far as it is asked for."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._front = bytearray()

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes from an offset on, fewer at the end of the file."""
        try:
            while len(self._front) < offset + length:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._front += chunk
        except _LimitError:
            raise HeaderTooLongError(
                "the header is not in the first "
                f"{format_size(PACKED_LIMIT)} of the layer, which is compressed",
                hint="pull the model: then all of it is read",
            ) from None
        return bytes(self._front[offset : offset + length])


def _damaged(what: str) -> IntegrityError:
    return IntegrityError(f"a layer of the model {what}", hint=_HINT)


_HINT = "the artifact is damaged or hostile: report it to its publisher"
_ERRORS = TarErrors(
    cut=lambda: _damaged("ends in the middle"),
    not_a_tar=lambda: _damaged("is not a tar"),
    malformed=lambda what: _damaged(f"has {what}"),
    sparse=lambda _name: UnsupportedArtifactError(
        "a layer of the model has sparse files", hint="ask its publisher for plain files"
    ),
)
