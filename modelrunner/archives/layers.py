"""The entries of a layer, as they come out of its archive; nothing of it is trusted.

A layer is a tar, as it is or packed with gzip or zstd. The config of an image has the digest of
the tar, which is compared when the last byte was read.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import (
    AREGTYPE,
    BLKTYPE,
    CHRTYPE,
    CONTTYPE,
    DIRTYPE,
    FIFOTYPE,
    LNKTYPE,
    REGTYPE,
    SYMTYPE,
)
from typing import Literal

from modelrunner.archives.compression import HEAD, packing_of, unpacked
from modelrunner.disk.inside import InsideFile, open_content
from modelrunner.errors import DigestMismatchError, IntegrityError, UnsupportedArtifactError
from modelrunner.oci.digest import Digest
from modelrunner.oci.tar import TarEntries, TarErrors, TarHeader
from modelrunner.text import sanitize_line
from modelrunner.units import format_size


@dataclass(frozen=True, slots=True)
class Words:
    """How errors speak of what is unpacked.

    Attributes:
        noun: What it is.
        report: What to do where it is not right.
        unsupported: What to do where it has entries that nobody understands.
    """

    noun: str = "image"
    report: str = (
        "the image is damaged or hostile: install another one, and report it to its publisher"
    )
    unsupported: str = "install another image: sparse files and special entries are not supported"

    def error(self, text: str) -> IntegrityError:
        """The error for something that is not right."""
        return IntegrityError(text, hint=self.report)


_CHUNK = 1024 * 1024
_KINDS: dict[bytes, "Kind"] = {
    REGTYPE: "file",
    AREGTYPE: "file",
    CONTTYPE: "file",
    DIRTYPE: "directory",
    SYMTYPE: "symlink",
    LNKTYPE: "hardlink",
    CHRTYPE: "device",
    BLKTYPE: "device",
    FIFOTYPE: "device",
}

Kind = Literal["file", "directory", "symlink", "hardlink", "device"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What layers may ask of a disk.

    Attributes:
        bytes: What all layers have unpacked.
        entries: Files, directories and links of all layers.
        path: Characters of one path, and of what a link points to.
        ratio: How many times larger a layer may be unpacked; small ones may be more.
        small: Unpacked layers up to this size may have any ratio.
    """

    bytes: int = 96 << 30
    entries: int = 1_000_000
    path: int = 2048
    ratio: int = 100
    small: int = 64 << 20


@dataclass(slots=True)
class Spent:
    """What the layers of one image or model have asked for so far."""

    limits: Limits = field(default_factory=Limits)
    words: Words = field(default_factory=Words)
    bytes: int = 0
    entries: int = 0

    def unpacked(self, count: int) -> None:
        """Count bytes.

        Raises:
            IntegrityError: They are too many.
        """
        self.bytes += count
        if self.bytes > self.limits.bytes:
            most = format_size(self.limits.bytes)
            raise self.words.error(f"the {self.words.noun} unpacks to more than {most}")

    def entered(self) -> None:
        """Count an entry.

        Raises:
            IntegrityError: They are too many.
        """
        self.entries += 1
        if self.entries > self.limits.entries:
            most = self.limits.entries
            raise self.words.error(f"the {self.words.noun} has more than {most} entries")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer; `chunks` has the content of a file, and is read before the next."""

    name: str
    kind: Kind
    mode: int
    size: int
    target: str
    chunks: Callable[[], Iterator[bytes]] = field(repr=False)


class _Unpacked:
    """The bytes of a layer's tar; hashed and counted as they are read."""

    def __init__(self, file: InsideFile, size: int, spent: Spent) -> None:
        self._file = file
        self._spent = spent
        self._words = spent.words
        self._most = max(spent.limits.small, size * spent.limits.ratio)
        self._hash = hashlib.sha256()
        self._count = 0
        self._pieces = self._decompressed()
        self._rest = memoryview(b"")

    @property
    def digest(self) -> Digest:
        """The digest of what was read."""
        return Digest(self._hash.hexdigest())

    def read(self, size: int) -> bytes:
        """At most so many bytes, none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._hash.update(piece)
            self._count += len(piece)
            self._spent.unpacked(len(piece))
            if self._count > self._most:
                raise self._words.error(
                    f"a layer of the {self._words.noun} unpacks to more than "
                    f"{format_size(self._most)}, {self._spent.limits.ratio} times its size"
                )
            self._rest = memoryview(piece)
        found, self._rest = self._rest[:size], self._rest[size:]
        return bytes(found)

    def _decompressed(self) -> Iterator[bytes]:
        how = packing_of(self._file.read(HEAD) or b"")
        self._file.seek(0)
        if how is None:
            return self._raw()
        return unpacked(lambda size: self._file.read(size) or b"", how, self._damaged)

    def _damaged(self, what: str) -> IntegrityError:
        return self._words.error(f"a layer of the {self._words.noun} {what}")

    def _raw(self) -> Iterator[bytes]:
        while chunk := self._file.read(_CHUNK):
            yield chunk


def entries(blob: Path, diff_id: Digest | None, spent: Spent) -> Iterator[Entry]:
    """The entries of a layer in their order.

    Args:
        blob: The layer's file.
        diff_id: The digest of the tar, as the image's config has it; None where nothing says it.
        spent: What is counted against the limits.

    Raises:
        IntegrityError: It is not a tar, is cut, asks for too much, or has another digest.
        UnsupportedArtifactError: It has entries of a kind that images do not have.
    """
    with open_content(blob) as file:
        size = file.seek(0, 2)
        file.seek(0)
        stream = _Unpacked(file, size, spent)
        tar = TarEntries(stream, _errors(spent.words), ends_early=True)
        while (found := tar.next()) is not None:
            spent.entered()
            yield _entry(found, tar, spent)
        while stream.read(_CHUNK):
            pass
        if diff_id is not None and stream.digest != diff_id:
            raise DigestMismatchError(
                f"a layer of the {spent.words.noun} unpacks to {stream.digest}, but its config "
                f"says {diff_id}",
                hint=spent.words.report,
                expected=str(diff_id),
                got=str(stream.digest),
            )


def _entry(found: TarHeader, tar: TarEntries, spent: Spent) -> Entry:
    kind = _KINDS.get(found.block.type)
    if kind is None:
        raise _unsupported(spent.words, found.name)
    # what is not a file has no content, whatever it says
    tar.enter(found.size if kind == "file" else 0)
    for text in (found.name, found.target):
        if len(text) > spent.limits.path:
            raise spent.words.error(
                f"a path in the {spent.words.noun} has {len(text)} characters, more than "
                f"{spent.limits.path}"
            )
    return Entry(found.name, kind, found.block.mode, found.size, found.target, tar.chunks)


def _unsupported(words: Words, name: str) -> UnsupportedArtifactError:
    return UnsupportedArtifactError(
        f"the {words.noun} has an entry of an unsupported kind: {sanitize_line(name, 120)!r}",
        hint=words.unsupported,
    )


def _cut(words: Words) -> IntegrityError:
    return words.error(f"a layer of the {words.noun} ends in the middle")


def _errors(words: Words) -> TarErrors:
    return TarErrors(
        cut=lambda: _cut(words),
        not_a_tar=lambda: words.error(f"a layer of the {words.noun} is not a tar"),
        malformed=lambda what: words.error(f"a layer of the {words.noun} has {what}"),
        sparse=lambda name: _unsupported(words, name),
    )
