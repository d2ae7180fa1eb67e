"""A tar as it comes, member by member, from a file or a pipe; nothing of it is trusted.

No name in it ever becomes a path on this disk. What a model archive has no use for is passed over;
what only an attacker would write is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from tarfile import BLOCKSIZE, DIRTYPE, REGULAR_TYPES, SUPPORTED_TYPES
from typing import Literal

from modelrunner.errors import IntegrityError, SizeMismatchError
from modelrunner.oci.tar import Readable, TarEntries, TarErrors, TarHeader
from modelrunner.text import sanitize_line

_CHUNK = 1024 * 1024
_MOST_MEMBERS = 200_000
_TRAILING = 16 * 1024 * 1024


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
        self._entries = TarEntries(_Begun(stream), ERRORS)

    def members(self) -> Iterator[Member]:
        """Every member; what was not read of one is passed over before the next.

        Raises:
            SizeMismatchError: The archive ends in the middle.
            IntegrityError: It is not a tar, or a hostile one.
        """
        for _number in range(_MOST_MEMBERS):
            found = self._entries.next()
            if found is None:
                self._drain()
                return
            yield self._member(found)
        raise IntegrityError(f"the archive has more than {_MOST_MEMBERS} members")

    def chunks(self) -> Iterator[bytes]:
        """The content of the member at hand."""
        return self._entries.chunks()

    def content(self, limit: int) -> bytes:
        """The content of a small member.

        Raises:
            IntegrityError: It is larger than that.
        """
        if self._entries.left > limit:
            raise IntegrityError(
                f"an entry of the archive has {self._entries.left} bytes, more than {limit}"
            )
        return b"".join(self.chunks())

    def _member(self, found: TarHeader) -> Member:
        type_ = found.block.type
        # links, folders and devices have no content, whatever their size says
        has_content = type_ in REGULAR_TYPES or type_ not in SUPPORTED_TYPES
        count = found.size if has_content else 0
        self._entries.enter(count)
        kind: Literal["file", "folder", "other"] = "other"
        if type_ in REGULAR_TYPES:
            kind = "file"
        elif type_ == DIRTYPE:
            kind = "folder"
        return Member(_name(found.name.encode("utf-8", "surrogateescape")), count, kind)

    def _drain(self) -> None:
        """Reads what fills the last record, so that whoever writes a pipe is not cut off."""
        left = _TRAILING
        while left > 0 and (chunk := self._stream.read(min(_CHUNK, left))):
            left -= len(chunk)


class _Begun:
    """A stream whose first block is looked at: a file that is shorter is not an archive."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._begun = False

    def read(self, size: int, /) -> bytes:
        """Read on."""
        if self._begun:
            return self._stream.read(size)
        self._begun = True
        found = b""
        while len(found) < BLOCKSIZE and (more := self._stream.read(BLOCKSIZE - len(found))):
            found += more
        if len(found) < BLOCKSIZE and found and b"\0" not in found:
            # the first fields of a tar are padded with zeros
            raise _no_tar()
        if len(found) < BLOCKSIZE:
            raise cut()
        return found


def _name(raw: bytes) -> str:
    """The name without `./` before it.

    Raises:
        IntegrityError: It leads out of the archive.
    """
    text = raw.decode("utf-8", "replace")
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


def cut() -> SizeMismatchError:
    """The error for an archive that ends in the middle."""
    return SizeMismatchError(
        "unexpected end of archive; nothing was loaded",
        hint="copy it again; a split archive needs every part, in order",
    )


ERRORS = TarErrors(
    cut=cut,
    not_a_tar=_no_tar,
    malformed=lambda what: IntegrityError(f"the archive has {what}"),
    sparse=lambda _name: IntegrityError("sparse files in archives are not supported"),
)
