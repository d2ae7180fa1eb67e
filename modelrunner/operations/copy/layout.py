"""An OCI image layout as one end of a copy that is read: a tar, parts of one, or a directory."""

import os
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tarfile import BLOCKSIZE, REGULAR_TYPES

from modelrunner.archives.compression import HEAD, packing_of
from modelrunner.disk.inside import open_inside
from modelrunner.errors import (
    IntegrityError,
    ManifestNotFoundError,
    ModelRunnerError,
    SizeMismatchError,
    UnsupportedArtifactError,
    UsageError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest, parse_manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.tar import TarEntries
from modelrunner.operations.archive.directory import is_layout
from modelrunner.operations.archive.index import check_layout, entries_of
from modelrunner.operations.archive.packed import unpack_archive
from modelrunner.operations.archive.source import find_parts, refuse_packing
from modelrunner.operations.archive.tar import ERRORS
from modelrunner.registry.source import BlobStream
from modelrunner.text import os_hint, os_reason

_BLOB = re.compile(r"(?:\./)?blobs/sha256/([0-9a-f]{64})")
_MOST_MEMBERS = 200_000


@dataclass(frozen=True, slots=True)
class Span:
    """Where the bytes of a blob are: in one file after the other, from a byte on."""

    offset: int
    size: int


class _Bytes:
    """Files that are read as if they were one, anywhere; for several threads."""

    def __init__(self, handles: Sequence[int], path: Path) -> None:
        self._handles = tuple(handles)
        self._path = path
        weakref.finalize(self, _close, self._handles)
        self._sizes = [os.fstat(handle).st_size for handle in self._handles]

    @property
    def size(self) -> int:
        """How many there are."""
        return sum(self._sizes)

    def readinto(self, buffer: memoryview, position: int) -> int:
        """Fill a buffer as far as one file goes; 0 at the end."""
        begin = 0
        for handle, size in zip(self._handles, self._sizes, strict=True):
            if position < begin + size:
                try:
                    return os.preadv(handle, [buffer], position - begin)
                except OSError as exc:
                    raise _unreadable(self._path, exc) from exc
            begin += size
        return 0


def _close(handles: Sequence[int]) -> None:
    for handle in handles:
        os.close(handle)


class ArchiveFile:
    """An archive that is read from one place on. Not to be shared between threads."""

    def __init__(self, content: _Bytes, position: int = 0) -> None:
        self._content = content
        self._position = position

    def tell(self) -> int:
        """Return where it is read next."""
        return self._position

    def seek(self, position: int) -> None:
        """Go on at a byte."""
        self._position = position

    def read(self, size: int, /) -> bytes:
        """Read up to a number of bytes; none at the end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer as far as one file goes; 0 at the end."""
        count = self._content.readinto(buffer, self._position)
        self._position += count
        return count


class TarLayout:
    """A layout in a tar: its members are found once, and read where they are.

    One that is compressed is unpacked first, into a file without a name in `scratch`.
    """

    def __init__(self, path: Path, scratch: Path | None = None) -> None:
        self.path = path
        self._files: dict[str, Span] = {}
        self._blobs: dict[Digest, Span] = {}
        self._content = _opened(find_parts([path]), path)
        packed = ArchiveFile(self._content)
        start = packed.read(HEAD)
        how = packing_of(start)
        try:
            refuse_packing(start)
            if how is not None:
                packed.seek(0)
                handle = unpack_archive(packed.read, how, self._content.size, scratch)
                self._content = _Bytes([handle], path)
            self._scan(ArchiveFile(self._content))
        except (IntegrityError, UnsupportedArtifactError) as exc:
            raise exc.about(str(path)) from exc

    def file(self, name: str) -> bytes:
        """A small file of the layout.

        Raises:
            IntegrityError: It is missing, or too large.
        """
        return self._read(self._files.get(name), name)

    def blob(self, digest: Digest) -> bytes:
        """A small blob, not verified yet.

        Raises:
            FileNotFoundError: It is missing.
        """
        span = self._blobs.get(digest)
        if span is None:
            raise FileNotFoundError(str(digest))
        return self._read(span, str(digest))

    @contextmanager
    def reading(self, digest: Digest, offset: int) -> Iterator[BlobStream | None]:
        """The block in which a blob is read; None where it is missing."""
        span = self._blobs.get(digest)
        if span is None:
            yield None
            return
        yield _stream(ArchiveFile(self._content), span.offset, span.size, offset)

    def size(self, digest: Digest) -> int | None:
        """The bytes of a blob; None where it is missing."""
        span = self._blobs.get(digest)
        return None if span is None else span.size

    def _read(self, span: Span | None, what: str) -> bytes:
        if span is None:
            raise _not_a_layout(self.path)
        if span.size > MAX_BYTES:
            raise IntegrityError(
                f"{self.path}: {what} has {span.size} bytes, more than {MAX_BYTES}"
            )
        file = ArchiveFile(self._content, span.offset)
        raw = b""
        while len(raw) < span.size and (more := file.read(span.size - len(raw))):
            raw += more
        return raw

    def _scan(self, file: ArchiveFile) -> None:
        entries = TarEntries(file, ERRORS)
        for _number in range(_MOST_MEMBERS):
            found = entries.next()
            if found is None:
                return
            if found.block.type not in REGULAR_TYPES:
                continue
            span = Span(file.tell(), found.size)
            match = _BLOB.fullmatch(found.name)
            if match is not None:
                self._blobs.setdefault(Digest(match[1]), span)
            else:
                self._files.setdefault(found.name.removeprefix("./"), span)
            file.seek(span.offset + found.size + -found.size % BLOCKSIZE)
        raise IntegrityError(f"the archive has more than {_MOST_MEMBERS} members")


class DirectoryLayout:
    """A layout in a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not is_layout(path):
            raise _not_a_layout(path)

    def file(self, name: str) -> bytes:
        """A small file of the layout."""
        return self._read(self.path / name)

    def blob(self, digest: Digest) -> bytes:
        """A small blob, not verified yet.

        Raises:
            FileNotFoundError: It is missing.
        """
        return self._read(self._path(digest))

    @contextmanager
    def reading(self, digest: Digest, offset: int) -> Iterator[BlobStream | None]:
        """The block in which a blob is read; None where it is missing."""
        try:
            file = open_inside(self._path(digest), "read")
        except FileNotFoundError:
            yield None
            return
        except OSError as exc:
            raise _unreadable(self._path(digest), exc) from exc
        with file:
            file.seek(offset)
            yield BlobStream(offset, file.readinto)

    def size(self, digest: Digest) -> int | None:
        """The bytes of a blob; None where it is missing."""
        try:
            return self._path(digest).stat().st_size
        except OSError:
            return None

    def _path(self, digest: Digest) -> Path:
        return self.path / "blobs" / "sha256" / digest.hex

    def _read(self, path: Path) -> bytes:
        try:
            with open_inside(path, "read") as file:
                raw = file.content(MAX_BYTES + 1)
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise _unreadable(path, exc) from exc
        if len(raw) > MAX_BYTES:
            raise IntegrityError(f"{path} has more than {MAX_BYTES} bytes")
        return raw


Layout = TarLayout | DirectoryLayout


def read_index(layout: Layout) -> tuple[Descriptor, ...]:
    """Return the entries of a layout's index.

    Raises:
        IntegrityError: It is not a layout, or a damaged one.
    """
    check_layout(layout.file("oci-layout"))
    return entries_of(layout.file("index.json"))


@dataclass(frozen=True, slots=True)
class LayoutSource:
    """A layout as a source of blobs; files are opened for each."""

    layout: Layout

    @property
    def name(self) -> str:
        """The file or directory."""
        return str(self.layout.path)

    def at(self, digest: Digest, media_type: str | None = None) -> Manifest | Index:
        """A manifest by its digest, verified.

        Raises:
            ManifestNotFoundError: It is not there.
            IntegrityError: It is damaged.
        """
        try:
            raw = self.layout.blob(digest)
        except FileNotFoundError:
            raise self._missing(digest) from None
        if Digest.of(raw) != digest:
            raise IntegrityError(
                f"{self.name}: {digest} is damaged", hint="create the archive again"
            )
        return parse_manifest(raw, media_type)

    @contextmanager
    def open_blob(
        self,
        reference: Reference,  # noqa: ARG002 - its digest is what counts
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,  # noqa: ARG002 - who reads stops by itself
    ) -> Iterator[BlobStream]:
        """A stream of a blob's bytes from `offset` on.

        Raises:
            ManifestNotFoundError: It is not there.
            SizeMismatchError: It has another size.
        """
        size = self.layout.size(descriptor.digest)
        if size is not None and size != descriptor.size:
            raise SizeMismatchError(
                f"{self.name}: {descriptor.digest}: expected {descriptor.size} bytes, got {size}",
                hint="create the archive again",
            )
        with self.layout.reading(descriptor.digest, offset) as stream:
            if stream is None:
                raise self._missing(descriptor.digest)
            yield stream

    def resolve(self, reference: Reference) -> Digest:
        """The digest of a pinned reference: names are looked up in the index."""
        if reference.digest is None:
            raise self._missing(None)
        return reference.digest

    def manifest(self, reference: Reference) -> Manifest | Index:
        """The manifest of a pinned reference, see `at`."""
        return self.at(self.resolve(reference))

    def tags(self, reference: Reference) -> tuple[str, ...]:  # noqa: ARG002
        """Not asked."""
        return ()

    def distrust(self, places: Mapping[str, int]) -> None:
        """There is no other place."""

    def close(self) -> None:
        """Nothing is open."""

    def _missing(self, digest: Digest | None) -> ModelRunnerError:
        return ManifestNotFoundError(
            f"{self.name}: {digest} is missing",
            hint="create the archive again where it is complete",
            missing="blob",
        )


def open_layout(path: Path, scratch: Path | None = None) -> Layout:
    """Return the layout at a path.

    Args:
        path: The archive, or the directory.
        scratch: The directory that a compressed archive is unpacked in.

    Raises:
        UsageError: It cannot be read.
        IntegrityError: It is not a layout.
    """
    return DirectoryLayout(path) if path.is_dir() else TarLayout(path, scratch)


def _opened(paths: Sequence[Path], path: Path) -> _Bytes:
    handles: list[int] = []
    try:
        for each in paths:
            # outside: an archive that a person names
            handles.append(os.open(each, os.O_RDONLY | getattr(os, "O_BINARY", 0)))  # noqa: PERF401
    except OSError as exc:
        _close(handles)
        raise _unreadable(path, exc) from exc
    return _Bytes(handles, path)


def _stream(file: ArchiveFile, begin: int, size: int, offset: int) -> BlobStream:
    position = min(offset, size)
    file.seek(begin + position)

    def readinto(buffer: memoryview) -> int:
        nonlocal position
        count = file.readinto(buffer[: size - position])
        position += count
        return count

    return BlobStream(offset, readinto)


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot read {path}: {os_reason(error)}", hint=os_hint(error))


def _not_a_layout(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path} is not an OCI image layout: index.json or oci-layout is missing",
        hint="create archives with `modelrunner save` or `skopeo copy ... oci-archive:FILE`",
    )
