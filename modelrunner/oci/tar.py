"""The entries of a tar as they come, from a file or a pipe; nothing of it is trusted.

What an entry means, an archive of models and a layer of an image know themselves.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from tarfile import (
    BLOCKSIZE,
    GNUTYPE_LONGLINK,
    GNUTYPE_LONGNAME,
    GNUTYPE_SPARSE,
    XGLTYPE,
    XHDTYPE,
    HeaderError,
    TarInfo,
)
from typing import Protocol

from modelrunner.errors import IntegrityError
from modelrunner.wire import parse_count

_CHUNK = 1024 * 1024
_LONGEST_EXTRA = 1024 * 1024
_SPARSE = "GNU.sparse"
_RECORDS = (b"path", b"linkpath", b"size")


class Readable(Protocol):
    """Where the bytes come from."""

    def read(self, size: int, /) -> bytes:
        """At most this many bytes, none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class TarErrors:
    """What is said of a tar that is not right.

    Attributes:
        cut: Makes the error for one that ends in the middle.
        not_a_tar: Makes the error for something else.
        malformed: Makes the error for one of which something is wrong.
        sparse: Makes the error for a sparse file, by its name.
    """

    cut: Callable[[], IntegrityError]
    not_a_tar: Callable[[], IntegrityError]
    malformed: Callable[[str], IntegrityError]
    sparse: Callable[[str], Exception]


@dataclass(frozen=True, slots=True)
class TarHeader:
    """One entry: its block, and what pax and GNU headers before it say instead.

    Attributes:
        block: As `tarfile` reads it.
        name: The name.
        target: What a link leads to.
        size: The size that it says; only files have content.
    """

    block: TarInfo
    name: str
    target: str
    size: int


class TarEntries:
    """The entries of a tar, in the order in which they come.

    Args:
        stream: The bytes.
        errors: What is said of those that are not right.
        ends_early: Whether a tar may end without the zeros that mark its end.
    """

    def __init__(self, stream: Readable, errors: TarErrors, *, ends_early: bool = False) -> None:
        self._stream = stream
        self._errors = errors
        self._ends_early = ends_early
        self._left = 0
        self._padding = 0

    def next(self) -> TarHeader | None:
        """Pass over what was not read of the entry at hand; return the next, None at the end."""
        self._pass_over()
        said: dict[str, str] = {}
        while (block := self._block()) is not None:
            found = self._parsed(block)
            if found.type not in (XHDTYPE, XGLTYPE, GNUTYPE_LONGNAME, GNUTYPE_LONGLINK):
                return self._header(found, said)
            self.enter(found.size)
            if found.size > _LONGEST_EXTRA:
                raise self._errors.malformed(
                    f"an extended header of {found.size} bytes, more than {_LONGEST_EXTRA}"
                )
            extra = b"".join(self.chunks())
            self._pass_over()
            if found.type == XHDTYPE:
                said |= self._records(extra)
            elif found.type != XGLTYPE:
                key = "path" if found.type == GNUTYPE_LONGNAME else "linkpath"
                said[key] = _text(extra.rstrip(b"\0"))
        return None

    def enter(self, size: int) -> None:
        """Begin with the content of the entry at hand, of this many bytes."""
        self._left, self._padding = size, -size % BLOCKSIZE

    @property
    def left(self) -> int:
        """Bytes of the entry at hand that were not read yet."""
        return self._left

    def chunks(self) -> Iterator[bytes]:
        """The content of the entry at hand."""
        while self._left:
            chunk = self._stream.read(min(_CHUNK, self._left))
            if not chunk:
                raise self._errors.cut()
            self._left -= len(chunk)
            yield chunk

    def _header(self, found: TarInfo, said: Mapping[str, str]) -> TarHeader:
        name = said.get("path", found.name)
        if found.type == GNUTYPE_SPARSE or _SPARSE in said:
            raise self._errors.sparse(name)
        size: int | None = found.size
        if "size" in said:
            size = parse_count(said["size"])
        if size is None or size < 0:
            raise self._errors.malformed("an entry with an invalid size")
        return TarHeader(found, name, said.get("linkpath", found.linkname), size)

    def _block(self) -> bytes | None:
        block = self._stream.read(BLOCKSIZE)
        if not block and self._ends_early:
            return None
        block += self._exactly(BLOCKSIZE - len(block))
        return block if any(block) else None

    def _parsed(self, block: bytes) -> TarInfo:
        try:
            found = TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except HeaderError as exc:
            raise self._errors.not_a_tar() from exc
        if found.size < 0:
            raise self._errors.malformed("an entry of negative size")
        return found

    def _records(self, raw: bytes) -> dict[str, str]:
        """The records of a pax header: `LENGTH KEY=VALUE` and a line feed each."""
        found: dict[str, str] = {}
        raw, at = raw.rstrip(b"\0"), 0
        while at < len(raw):
            length, space, _ = raw[at : at + 24].partition(b" ")
            count = parse_count(length.decode("ascii", "replace")) if space else None
            if count is None or not len(length) + 2 < count <= len(raw) - at:
                raise self._errors.malformed("a damaged pax header")
            key, equals, value = raw[at + len(length) + 1 : at + count].partition(b"=")
            if not equals or not value.endswith(b"\n"):
                raise self._errors.malformed("a damaged pax header")
            # any number of headers may come before an entry: what nobody asks for is not kept
            if key in _RECORDS:
                found[_text(key)] = _text(value[:-1])
            elif key.startswith(_SPARSE.encode()):
                found[_SPARSE] = ""
            at += count
        return found

    def _pass_over(self) -> None:
        for _ in self.chunks():
            pass
        self._exactly(self._padding)
        self._padding = 0

    def _exactly(self, size: int) -> bytes:
        pieces, left = [], size
        while left:
            piece = self._stream.read(left)
            if not piece:
                raise self._errors.cut()
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
