"""An OCI image layout as one end of a copy that is read: a tar, parts of one, or a directory."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tarfile import BLOCKSIZE, REGULAR_TYPES

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
from modelrunner.operations.archive.source import find_parts
from modelrunner.operations.archive.tar import ERRORS
from modelrunner.registry.source import BlobStream
from modelrunner.text import os_hint, os_reason

_BLOB = re.compile(r"(?:\./)?blobs/sha256/([0-9a-f]{64})")
_GZIP = b"\x1f\x8b"
_MOST_MEMBERS = 200_000


@dataclass(frozen=True, slots=True)
class Span:
    """Where the bytes of a blob are: in one file after the other, from a byte on."""

    offset: int
    size: int


class ArchiveFile:
    """Files that are read as if they were one. Not to be shared between threads."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        try:
            # outside: an archive that a person names
            self._files = [path.open("rb", buffering=0) for path in paths]
        except OSError as exc:
            raise _unreadable(paths[0], exc) from exc
        self._path = paths[0]
        self._sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        self._position = 0

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
        begin = 0
        for file, size in zip(self._files, self._sizes, strict=True):
            if self._position < begin + size:
                try:
                    file.seek(self._position - begin)
                    count = file.readinto(buffer)
                except OSError as exc:
                    raise _unreadable(self._path, exc) from exc
                self._position += count
                return count
            begin += size
        return 0

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


class TarLayout:
    """A layout in a tar: its members are found once, and read where they are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._paths = find_parts([path])
        self._files: dict[str, Span] = {}
        self._blobs: dict[Digest, Span] = {}
        file = ArchiveFile(self._paths)
        try:
            self._scan(file)
        finally:
            file.close()

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
        file = ArchiveFile(self._paths)
        try:
            yield _stream(file, span.offset, span.size, offset)
        finally:
            file.close()

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
        file = ArchiveFile(self._paths)
        try:
            file.seek(span.offset)
            raw = b""
            while len(raw) < span.size and (more := file.read(span.size - len(raw))):
                raw += more
        finally:
            file.close()
        return raw

    def _scan(self, file: ArchiveFile) -> None:
        if file.read(len(_GZIP)) == _GZIP:
            raise UnsupportedArtifactError(
                f"{self.path}: a compressed archive cannot be copied from",
                hint=f"decompress it first: `gunzip {self.path}`; `modelrunner load` takes it as it"
                " is",
                format="gzip",
            )
        file.seek(0)
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
        raise IntegrityError(f"{self.path} has more than {_MOST_MEMBERS} members")


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


def open_layout(path: Path) -> Layout:
    """Return the layout at a path.

    Raises:
        UsageError: It cannot be read.
        IntegrityError: It is not a layout.
    """
    return DirectoryLayout(path) if path.is_dir() else TarLayout(path)


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
