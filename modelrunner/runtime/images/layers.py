"""The entries of an image's layer, as they come out of its archive; nothing of it is trusted.

A layer is a tar, as it is or packed with gzip or zstd; its config has the digest of the tar, which
is compared when the last byte was read.
"""

import hashlib
import importlib
import sys
import zlib
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
from typing import Any, Literal

from modelrunner.disk.inside import InsideFile, open_content
from modelrunner.errors import DigestMismatchError, IntegrityError, UnsupportedArtifactError
from modelrunner.oci.digest import Digest
from modelrunner.oci.tar import TarEntries, TarErrors, TarHeader
from modelrunner.text import sanitize_line
from modelrunner.units import format_size

REPORT = "the image is damaged or hostile: install another one, and report it to its publisher"

_CHUNK = 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
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
    """What an image may ask of a disk.

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
    """What the layers of one image have asked for so far."""

    limits: Limits = field(default_factory=Limits)
    bytes: int = 0
    entries: int = 0

    def unpacked(self, count: int) -> None:
        """Count bytes.

        Raises:
            IntegrityError: They are too many.
        """
        self.bytes += count
        if self.bytes > self.limits.bytes:
            raise IntegrityError(
                f"the image unpacks to more than {format_size(self.limits.bytes)}", hint=REPORT
            )

    def entered(self) -> None:
        """Count an entry.

        Raises:
            IntegrityError: They are too many.
        """
        self.entries += 1
        if self.entries > self.limits.entries:
            raise IntegrityError(
                f"the image has more than {self.limits.entries} entries", hint=REPORT
            )


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
                raise IntegrityError(
                    f"a layer of the image unpacks to more than {format_size(self._most)}, "
                    f"{self._spent.limits.ratio} times its size",
                    hint=REPORT,
                )
            self._rest = memoryview(piece)
        found, self._rest = self._rest[:size], self._rest[size:]
        return bytes(found)

    def _decompressed(self) -> Iterator[bytes]:
        head = self._file.read(len(_ZSTD)) or b""
        self._file.seek(0)
        if head.startswith(_GZIP):
            return self._by_gzip()
        if head == _ZSTD:
            return self._by_zstd()
        return self._raw()

    def _raw(self) -> Iterator[bytes]:
        while chunk := self._file.read(_CHUNK):
            yield chunk

    def _by_gzip(self) -> Iterator[bytes]:
        # an archive may have several members, one behind the other
        chunk = self._file.read(_CHUNK)
        while chunk:
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                try:
                    piece = member.decompress(chunk, _CHUNK)
                except zlib.error as exc:
                    raise IntegrityError("a layer of the image is not gzip", hint=REPORT) from exc
                chunk = member.unconsumed_tail
                if not chunk and not member.eof:
                    chunk = self._file.read(_CHUNK)
                    if not chunk and not piece:
                        raise _cut()
                yield piece
            chunk = (member.unused_data or self._file.read(_CHUNK)).lstrip(b"\0")

    def _by_zstd(self) -> Iterator[bytes]:
        zstd = _zstd()
        chunk = self._file.read(_CHUNK)
        while chunk:
            frame = zstd.ZstdDecompressor()
            while not frame.eof:
                try:
                    piece = frame.decompress(chunk, max_length=_CHUNK)
                except zstd.ZstdError as exc:
                    raise IntegrityError("a layer of the image is not zstd", hint=REPORT) from exc
                chunk = b""
                if frame.needs_input and not frame.eof:
                    chunk = self._file.read(_CHUNK)
                    if not chunk:
                        raise _cut()
                yield piece
            chunk = frame.unused_data or self._file.read(_CHUNK)


def _zstd() -> Any:  # noqa: ANN401 - a module
    """The module for zstd: the standard library's, or what brings it to an older Python."""
    # few images need it
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name)


def entries(blob: Path, diff_id: Digest, spent: Spent) -> Iterator[Entry]:
    """The entries of a layer in their order.

    Args:
        blob: The layer's file.
        diff_id: The digest of the tar, as the image's config has it.
        spent: What is counted against the limits.

    Raises:
        IntegrityError: It is not a tar, is cut, asks for too much, or has another digest.
        UnsupportedArtifactError: It has entries of a kind that images do not have.
    """
    with open_content(blob) as file:
        size = file.seek(0, 2)
        file.seek(0)
        stream = _Unpacked(file, size, spent)
        tar = TarEntries(stream, _ERRORS, ends_early=True)
        while (found := tar.next()) is not None:
            spent.entered()
            yield _entry(found, tar, spent)
        while stream.read(_CHUNK):
            pass
        if stream.digest != diff_id:
            raise DigestMismatchError(
                f"a layer of the image unpacks to {stream.digest}, but its config says {diff_id}",
                hint=REPORT,
                expected=str(diff_id),
                got=str(stream.digest),
            )


def _entry(found: TarHeader, tar: TarEntries, spent: Spent) -> Entry:
    kind = _KINDS.get(found.block.type)
    if kind is None:
        raise _unsupported(found.name)
    # what is not a file has no content, whatever it says
    tar.enter(found.size if kind == "file" else 0)
    for text in (found.name, found.target):
        if len(text) > spent.limits.path:
            raise IntegrityError(
                f"a path in the image has {len(text)} characters, more than {spent.limits.path}",
                hint=REPORT,
            )
    return Entry(found.name, kind, found.block.mode, found.size, found.target, tar.chunks)


def _unsupported(name: str) -> UnsupportedArtifactError:
    return UnsupportedArtifactError(
        f"the image has an entry of an unsupported kind: {sanitize_line(name, 120)!r}",
        hint="install another image: sparse files and special entries are not supported",
    )


def _cut() -> IntegrityError:
    return IntegrityError("a layer of the image ends in the middle", hint=REPORT)


_ERRORS = TarErrors(
    cut=_cut,
    not_a_tar=lambda: IntegrityError("a layer of the image is not a tar", hint=REPORT),
    malformed=lambda what: IntegrityError(f"a layer of the image has {what}", hint=REPORT),
    sparse=_unsupported,
)
