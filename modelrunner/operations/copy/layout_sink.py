"""An OCI image layout that a copy is written to: a directory, or a tar.

In a directory a blob gets its name once it is complete and right, and the index is written last:
what a copy that was killed has left there is not copied again. A tar is written beside and renamed
when it is complete.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tarfile import BLOCKSIZE, RECORDSIZE
from threading import Lock

from modelrunner.disk.files import (
    cannot_write,
    flush,
    remove_abandoned,
    sync_directory,
    temporary_beside,
    write_atomically,
)
from modelrunner.disk.inside import open_inside
from modelrunner.errors import (
    DigestMismatchError,
    IntegrityError,
    MalformedManifestError,
    ManifestNotFoundError,
    ModelRunnerError,
)
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest, parse_manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import subject_of
from modelrunner.operations.archive.index import entries_of, with_aliases
from modelrunner.operations.archive.output import Output, to_files
from modelrunner.operations.archive.save import (
    LAYOUT,
    blob_path,
    folder_header,
    header,
    padding,
)
from modelrunner.operations.copy.layout import DirectoryLayout
from modelrunner.registry.http.file_body import FileContent
from modelrunner.registry.source import Framed, Outflow, UploadContent
from modelrunner.store.hashing import SideHash

Put = Callable[[memoryview | bytes], None]


class LayoutSink(ABC):
    """A layout as a sink, for several threads.

    Attributes:
        path: The file or directory.
        entries: What its index lists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Descriptor] = []
        self._manifests: dict[Digest, Manifest | Index] = {}
        self._lock = Lock()

    @property
    def name(self) -> str:
        """The file or directory."""
        return str(self.path)

    @abstractmethod
    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether it has a blob, complete and right."""

    @abstractmethod
    def write(self, descriptor: Descriptor, fill: Callable[[Put], None]) -> None:
        """Write a blob with what `fill` puts."""

    def resolve(self, reference: Reference) -> Digest:
        """See `Sink.resolve`."""
        if reference.digest is not None:
            return reference.digest
        for entry in self.entries:
            if entry.annotations.get(media_types.ANNOTATION_REFERENCE) == str(reference):
                return entry.digest
        raise self._missing(reference)

    def manifest(self, reference: Reference) -> Manifest | Index:
        """See `Sink.manifest`."""
        digest = self.resolve(reference)
        if digest not in self._manifests:
            raise self._missing(reference)
        return self._manifests[digest]

    def mount_blob(self, reference: Reference, digest: Digest, repository: str) -> bool:
        """There is nothing to mount from."""
        del reference, digest, repository
        return False

    def another(self) -> "LayoutSink":
        """Itself: it is locked where it has to be."""
        return self

    def close(self) -> None:  # noqa: B027 - no layout has something to close
        """Nothing is open between two blobs."""

    def upload(
        self, reference: Reference, descriptor: Descriptor, content: Framed | UploadContent
    ) -> "LayoutUpload":
        """See `Sink.upload`."""
        del reference
        read = FileContent(content, descriptor.size) if isinstance(content, Framed) else content
        return LayoutUpload(self, descriptor, read)

    def push_manifest(self, reference: Reference, manifest: Manifest | Index) -> Digest | None:
        """Write a manifest; list it under its name, or as what it refers to."""
        descriptor = Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))
        if not self.has_blob(reference, manifest.digest):
            self.write(descriptor, lambda put: put(manifest.raw))
        self._manifests[manifest.digest] = manifest
        subject = _subject(manifest)
        if reference.tag is not None:
            self._list(str(reference), descriptor)
        elif subject is not None:
            self._list(None, descriptor)
        return subject

    def _list(self, name: str | None, descriptor: Descriptor) -> None:
        noted = {} if name is None else {media_types.ANNOTATION_REFERENCE: name}
        entry = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size, noted)
        with self._lock:
            others = [
                each
                for each in self.entries
                if _name(each) != name or (name is None and each.digest != entry.digest)
            ]
            self.entries[:] = [*others, entry]

    def index(self) -> bytes:
        """The index that lists all of it."""
        value = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [entry.to_dict() for entry in with_aliases(self.entries)],
        }
        return json.dumps(value, separators=(",", ":")).encode()

    def _missing(self, reference: Reference) -> ManifestNotFoundError:
        return ManifestNotFoundError(f"{reference.short}: not found in {self.path}")


class LayoutUpload:
    """One blob on its way into a layout."""

    def __init__(self, sink: LayoutSink, descriptor: Descriptor, content: UploadContent) -> None:
        self._sink = sink
        self._descriptor = descriptor
        self._content = content

    def send(self, flow: Outflow) -> None:
        """Write it.

        Raises:
            DigestMismatchError: What was read is something else; nothing of it is kept.
            DiskFullError, UsageError: It cannot be written.
        """
        self._sink.write(self._descriptor, lambda put: self._fill(put, flow))

    def _fill(self, put: Put, flow: Outflow) -> None:
        hashed = SideHash()
        with self._content.opened() as content:
            for part in content.body(0, self._descriptor.size, flow):
                for piece in (part,) if isinstance(part, memoryview) else part:  # type: ignore[attr-defined]
                    hashed.add(piece)
                    put(piece)
                    hashed.settle()
        if hashed.hexdigest() != self._descriptor.digest.hex:
            raise DigestMismatchError(
                f"expected {self._descriptor.digest}, got sha256:{hashed.hexdigest()}",
                hint="run `modelrunner verify`, or copy again",
            )


class DirectorySink(LayoutSink):
    """A layout in a directory, which may have other models already."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._blobs = path / "blobs" / "sha256"
        if (path / "index.json").exists():
            layout = DirectoryLayout(path)
            # an index without entries is that of a layout that was just made
            with suppress(MalformedManifestError):
                self.entries = list(entries_of(layout.file("index.json")))
            for entry in self.entries:
                with suppress(IntegrityError, FileNotFoundError):
                    self._manifests[entry.digest] = parse_manifest(
                        layout.blob(entry.digest), entry.media_type
                    )

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether it has a blob: files get their names when they are complete."""
        del reference
        return (self._blobs / digest.hex).is_file()

    def write(self, descriptor: Descriptor, fill: Callable[[Put], None]) -> None:
        """Write a blob beside, flush and rename it."""
        path = self._blobs / descriptor.digest.hex
        with self._writing():
            self._blobs.mkdir(parents=True, exist_ok=True)
            remove_abandoned(path)
        beside = temporary_beside(path)
        try:
            with self._writing(), open_inside(beside, "new") as file:

                def put(piece: memoryview | bytes) -> None:
                    rest = memoryview(piece)
                    with self._writing():
                        while rest:
                            rest = rest[file.write(rest) :]

                fill(put)
                flush(file.fileno())
            with self._writing():
                beside.replace(path)
                sync_directory(self._blobs)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)

    def commit(self) -> None:
        """Write the index: what it lists is there from now on."""
        if not self.entries:
            return
        with self._writing():
            write_atomically(self.path / "oci-layout", LAYOUT)
            write_atomically(self.path / "index.json", self.index())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise cannot_write(exc, str(self.path)) from exc


class _NothingError(Exception):
    """Nothing was copied: what is there of an archive stays."""


class TarSink(LayoutSink):
    """A layout in a tar that is written from its start to its end: one blob after the other."""

    def __init__(self, path: Path, output: Output) -> None:
        super().__init__(path)
        self._output = output
        self._written: set[Digest] = set()
        self._broken: ModelRunnerError | None = None
        for folder in ("blobs", "blobs/sha256"):
            output.write(folder_header(folder))

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether it was written by now."""
        del reference
        return digest in self._written

    def write(self, descriptor: Descriptor, fill: Callable[[Put], None]) -> None:
        """Append a blob."""
        if self._broken is not None:
            # what has been written of a blob cannot be taken back
            raise self._broken
        self._output.write(header(blob_path(descriptor), descriptor.size))
        try:
            fill(self._output.write)
        except ModelRunnerError as exc:
            self._broken = exc
            raise
        self._output.write(bytes(padding(descriptor.size)))
        self._written.add(descriptor.digest)

    def commit(self) -> None:
        """Append what says what all of it is.

        Raises:
            ModelRunnerError: A blob could not be brought to its end.
        """
        if self._broken is not None:
            raise self._broken
        if not self.entries:
            raise _NothingError
        for name, content in (("oci-layout", LAYOUT), ("index.json", self.index())):
            self._output.write(header(name, len(content)))
            self._output.write(content + bytes(padding(len(content))))
        self._output.write(bytes(2 * BLOCKSIZE))
        self._output.write(bytes(-self._output.size % RECORDSIZE))


@contextmanager
def directory_sink(path: Path) -> Iterator[LayoutSink]:
    """The block in which a copy goes into a directory; listed at its end.

    Raises:
        DiskFullError, UsageError: It cannot be written.
    """
    sink = DirectorySink(path)
    yield sink
    sink.commit()


@contextmanager
def tar_sink(path: Path) -> Iterator[LayoutSink]:
    """The block in which a copy goes into a tar, which has its name at its end.

    Raises:
        DiskFullError, UsageError: It cannot be written.
    """
    with suppress(_NothingError), to_files(path) as output:
        sink = TarSink(path, output)
        yield sink
        sink.commit()


def _name(entry: Descriptor) -> str | None:
    return entry.annotations.get(media_types.ANNOTATION_REFERENCE)


def _subject(manifest: Manifest | Index) -> Digest | None:
    if not isinstance(manifest, Manifest):
        return None
    with suppress(MalformedManifestError):
        found = subject_of(manifest)
        return None if found is None else found.digest
    return None
