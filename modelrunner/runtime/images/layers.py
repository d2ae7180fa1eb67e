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
    BLOCKSIZE,
    CHRTYPE,
    CONTTYPE,
    DIRTYPE,
    FIFOTYPE,
    GNUTYPE_LONGLINK,
    GNUTYPE_LONGNAME,
    LNKTYPE,
    REGTYPE,
    SYMTYPE,
    XGLTYPE,
    XHDTYPE,
    HeaderError,
    TarInfo,
)
from typing import Any, Literal

from modelrunner.disk.inside import InsideFile, open_content
from modelrunner.errors import DigestMismatchError, IntegrityError, UnsupportedArtifactError
from modelrunner.oci.digest import Digest
from modelrunner.text import sanitize_line
from modelrunner.units import format_size
from modelrunner.wire import parse_count

REPORT = "the image is damaged or hostile: install another one, and report it to its publisher"

_CHUNK = 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_LONGEST_EXTRA = 1024 * 1024
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
        yield from _Reader(stream, spent).entries()
        while stream.read(_CHUNK):
            pass
        if stream.digest != diff_id:
            raise DigestMismatchError(
                f"a layer of the image unpacks to {stream.digest}, but its config says {diff_id}",
                hint=REPORT,
                expected=str(diff_id),
                got=str(stream.digest),
            )


class _Reader:
    def __init__(self, stream: _Unpacked, spent: Spent) -> None:
        self._stream = stream
        self._spent = spent
        self._left = 0
        self._padding = 0

    def entries(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            self._spent.entered()
            yield entry
            self._pass_over()

    def _next(self) -> Entry | None:
        said: dict[str, str] = {}
        while True:
            block = self._stream.read(BLOCKSIZE)
            block += self._exactly(BLOCKSIZE - len(block)) if block else b""
            if not any(block):
                # the end, with or without the zeros that mark it
                return None
            found = _header(block)
            if found.type not in (XHDTYPE, XGLTYPE, GNUTYPE_LONGNAME, GNUTYPE_LONGLINK):
                return self._entry(found, said)
            self._enter(found.size)
            if found.size > _LONGEST_EXTRA:
                raise IntegrityError(
                    f"a header in the image has {found.size} bytes, more than {_LONGEST_EXTRA}",
                    hint=REPORT,
                )
            extra = b"".join(self._chunks())
            self._pass_over()
            if found.type == XHDTYPE:
                said |= _records(extra)
            elif found.type != XGLTYPE:
                key = "path" if found.type == GNUTYPE_LONGNAME else "linkpath"
                said[key] = _text(extra.rstrip(b"\0"))

    def _entry(self, found: TarInfo, said: dict[str, str]) -> Entry:
        kind = _KINDS.get(found.type)
        if kind is None or any(key.startswith("GNU.sparse") for key in said):
            raise UnsupportedArtifactError(
                f"the image has an entry of an unsupported kind: "
                f"{sanitize_line(said.get('path', found.name), 120)!r}",
                hint="install another image: sparse files and special entries are not supported",
            )
        size = found.size
        if "size" in said:
            size = _size(said["size"])
        # what is not a file has no content, whatever it says
        self._enter(size if kind == "file" else 0)
        name, target = said.get("path", found.name), said.get("linkpath", found.linkname)
        for text in (name, target):
            if len(text) > self._spent.limits.path:
                raise IntegrityError(
                    f"a path in the image has {len(text)} characters, more than "
                    f"{self._spent.limits.path}",
                    hint=REPORT,
                )
        return Entry(name, kind, found.mode, size, target, self._chunks)

    def _enter(self, size: int) -> None:
        self._left, self._padding = size, -size % BLOCKSIZE

    def _chunks(self) -> Iterator[bytes]:
        while self._left:
            chunk = self._stream.read(min(_CHUNK, self._left))
            if not chunk:
                raise _cut()
            self._left -= len(chunk)
            yield chunk

    def _pass_over(self) -> None:
        for _ in self._chunks():
            pass
        self._exactly(self._padding)
        self._padding = 0

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            chunk = self._stream.read(size - len(found))
            if not chunk:
                raise _cut()
            found += chunk
        return found


def _header(block: bytes) -> TarInfo:
    try:
        found = TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except HeaderError as exc:
        raise IntegrityError("a layer of the image is not a tar", hint=REPORT) from exc
    if found.size < 0:
        raise IntegrityError("an entry of the image has a negative size", hint=REPORT)
    return found


def _records(raw: bytes) -> dict[str, str]:
    """The records of a pax header: `LENGTH KEY=VALUE`, each with a line end."""
    found: dict[str, str] = {}
    while raw.strip(b"\0"):
        length, space, _ = raw[:24].partition(b" ")
        count = parse_count(length.decode("ascii", "replace")) if space else None
        if count is None or not len(length) + 2 < count <= len(raw):
            raise IntegrityError("a header in the image is malformed", hint=REPORT)
        key, equals, value = raw[len(length) + 1 : count - 1].partition(b"=")
        if not equals:
            raise IntegrityError("a header in the image is malformed", hint=REPORT)
        found[_text(key)] = _text(value)
        raw = raw[count:]
    return found


def _size(text: str) -> int:
    size = parse_count(text)
    if size is None:
        raise IntegrityError("an entry of the image has an invalid size", hint=REPORT)
    return size


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _cut() -> IntegrityError:
    return IntegrityError("a layer of the image ends in the middle", hint=REPORT)
