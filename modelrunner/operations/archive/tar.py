"""A tar as it comes, member by member, from a file or a pipe; nothing of it is trusted.

No name in it ever becomes a path on this disk. What a model archive has no use for is passed over;
what only an attacker would write is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from tarfile import (
    BLOCKSIZE,
    DIRTYPE,
    GNUTYPE_LONGLINK,
    GNUTYPE_LONGNAME,
    GNUTYPE_SPARSE,
    REGULAR_TYPES,
    SUPPORTED_TYPES,
    XGLTYPE,
    XHDTYPE,
    HeaderError,
    TarInfo,
)
from typing import Literal, Protocol

from modelrunner.errors import IntegrityError, SizeMismatchError
from modelrunner.text import sanitize_line

_CHUNK = 1024 * 1024
_LONGEST_EXTRA = 1024 * 1024
_MOST_MEMBERS = 200_000
_TRAILING = 16 * 1024 * 1024


class Readable(Protocol):
    """Where the bytes come from."""

    def read(self, size: int, /) -> bytes:
        """At most this many bytes, none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the archive."""

    name: str
    size: int
    kind: Literal["file", "folder", "other"]


class TarStream:
    """The members of a tar, in the order in which they come."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = 0
        self._padding = 0
        self._begun = False

    def members(self) -> Iterator[Member]:
        """Every member; what was not read of one is passed over before the next.

        Raises:
            SizeMismatchError: The archive ends in the middle.
            IntegrityError: It is not a tar, or a hostile one.
        """
        for _number in range(_MOST_MEMBERS):
            member = self._next()
            if member is None:
                self._drain()
                return
            yield member
            self._pass_over()
        raise IntegrityError(f"the archive has more than {_MOST_MEMBERS} members")

    def chunks(self) -> Iterator[bytes]:
        """The content of the member at hand."""
        while self._left:
            chunk = self._stream.read(min(_CHUNK, self._left))
            if not chunk:
                raise _cut()
            self._left -= len(chunk)
            yield chunk

    def content(self, limit: int) -> bytes:
        """The content of a small member.

        Raises:
            IntegrityError: It is larger than that.
        """
        if self._left > limit:
            raise IntegrityError(
                f"an entry of the archive has {self._left} bytes, more than {limit}"
            )
        return b"".join(self.chunks())

    def _next(self) -> Member | None:
        name: str | None = None
        size: int | None = None
        while True:
            block = self._exactly(BLOCKSIZE) if self._begun else self._first()
            if not any(block):
                return None
            found = _parse(block)
            if found.type not in (XHDTYPE, XGLTYPE, GNUTYPE_LONGNAME, GNUTYPE_LONGLINK):
                return self._enter(found, name, size)
            self._left, self._padding = found.size, -found.size % BLOCKSIZE
            extra = self.content(_LONGEST_EXTRA)
            self._pass_over()
            if found.type == GNUTYPE_LONGNAME:
                name = extra.rstrip(b"\0").decode("utf-8", "replace")
            elif found.type == XHDTYPE:
                records = _records(extra)
                name = records.get("path", name)
                size = _size(records["size"]) if "size" in records else size

    def _enter(self, found: TarInfo, name: str | None, size: int | None) -> Member:
        if found.type == GNUTYPE_SPARSE:
            raise IntegrityError("sparse files in archives are not supported")
        # links, folders and devices have no content, whatever their size says
        has_content = found.type in REGULAR_TYPES or found.type not in SUPPORTED_TYPES
        count = (found.size if size is None else size) if has_content else 0
        self._left, self._padding = count, -count % BLOCKSIZE
        kind: Literal["file", "folder", "other"] = "other"
        if found.type in REGULAR_TYPES:
            kind = "file"
        elif found.type == DIRTYPE:
            kind = "folder"
        return Member(_name(found.name if name is None else name), count, kind)

    def _pass_over(self) -> None:
        for _chunk in self.chunks():
            pass
        self._exactly(self._padding)
        self._padding = 0

    def _exactly(self, count: int) -> bytes:
        pieces, left = [], count
        while left:
            piece = self._stream.read(left)
            if not piece:
                raise _cut()
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def _first(self) -> bytes:
        """The first block; a file that is shorter than one is not an archive."""
        self._begun = True
        found = b""
        while len(found) < BLOCKSIZE and (more := self._stream.read(BLOCKSIZE - len(found))):
            found += more
        if len(found) < BLOCKSIZE and found and b"\0" not in found:
            # the first fields of a tar are padded with zeros
            raise _no_tar()
        if len(found) < BLOCKSIZE:
            raise _cut()
        return found

    def _drain(self) -> None:
        """Reads what fills the last record, so that whoever writes a pipe is not cut off."""
        left = _TRAILING
        while left > 0 and (chunk := self._stream.read(min(_CHUNK, left))):
            left -= len(chunk)


def _parse(block: bytes) -> TarInfo:
    try:
        found = TarInfo.frombuf(block, "utf-8", "replace")
    except HeaderError as exc:
        raise _no_tar() from exc
    if found.size < 0:
        raise IntegrityError("the archive has an entry of negative size")
    return found


def _records(extra: bytes) -> dict[str, str]:
    """The records of a pax header: `LENGTH KEY=VALUE` and a line feed each."""
    found, rest = {}, extra
    while rest.rstrip(b"\0"):
        length, _space, _rest = rest[:20].partition(b" ")
        # bounded: by its length
        count = int(length) if length.isdigit() else 0
        record, rest = rest[len(length) + 1 : count], rest[count:]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or len(length) + 1 + len(record) != count:
            raise IntegrityError("the archive has a damaged pax header")
        if key.startswith(b"GNU.sparse"):
            raise IntegrityError("sparse files in archives are not supported")
        found[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "replace")
    return found


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):  # noqa: PLR2004
        raise IntegrityError("the archive has an entry with an invalid size")
    # bounded: by its length
    return int(text)


def _name(text: str) -> str:
    """The name without `./` before it.

    Raises:
        IntegrityError: It leads out of the archive.
    """
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith("/") or ".." in parts or "\0" in text or "\\" in text:
        raise IntegrityError(
            f"the archive has an entry outside of it: {sanitize_line(text, 200)!r}"
        )
    return "/".join(parts)


def _no_tar() -> IntegrityError:
    return IntegrityError(
        "not a tar archive, or a damaged one", hint="name an archive that `modelrunner save` wrote"
    )


def _cut() -> SizeMismatchError:
    return SizeMismatchError(
        "unexpected end of archive; nothing was loaded",
        hint="copy it again; a split archive needs every part, in order",
    )
