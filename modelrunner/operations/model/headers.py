"""GGUF headers of a model, wherever it is: in the store, in a file, or still in a registry.

A remote header is read by ranges of the blob, some megabytes of many gigabytes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelrunner.disk.inside import open_content
from modelrunner.errors import MalformedGGUFError, RangesUnsupportedError
from modelrunner.gguf.header import Header
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.projector import misfit
from modelrunner.gguf.reader import parse_header, read_header
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.model.artifact import Layer, ModelArtifact
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.contents import refuse_other_formats, shard_files
from modelrunner.store.store import StoredModel, missing
from modelrunner.text import with_article

if TYPE_CHECKING:
    from modelrunner.memory.model.shape import ModelShape
    from modelrunner.registry.source import BlobStream, Source

REMOTE_LIMIT = 16 * 1024 * 1024
"""How much of a remote header is read at most; the largest vocabularies need about that."""


class Headers(NamedTuple):
    """The headers of one model: all shards in order, and the sizes of what is loaded beside it.

    Attributes:
        shards: The headers of its weights.
        projector_bytes: Bytes of the projector's file, where there is one that goes with it.
        adapter_bytes: Bytes of the adapter's file.
        projector_problem: Why the artifact's projector cannot be used with the weights.
        projector: The header of the projector, where it can be used.
    """

    shards: Sequence[Header]
    projector_bytes: int | None = None
    adapter_bytes: int = 0
    projector_problem: str | None = None
    projector: Header | None = None

    @property
    def first(self) -> Header:
        """The header with the key-values."""
        return self.shards[0]

    @property
    def metadata(self) -> Metadata:
        """What they say of the model.

        Raises:
            MalformedGGUFError: The shards are not of one set.
        """
        return Metadata.from_header(self.first, shards=self.shards[1:])

    @property
    def projector_memory(self) -> int | None:
        """Bytes that a projector needs: those of its file, and buffers for an image."""
        if self.projector_bytes is None or self.projector is None:
            return self.projector_bytes
        # `inspect` and `list` read headers without it
        from modelrunner.memory.plan.vision import vision_bytes

        return self.projector_bytes + (vision_bytes(self.projector) or 0)

    @property
    def shape(self) -> "ModelShape":
        """What the model's need of memory depends on, with its adapter."""
        # `inspect` and `list` read headers without it
        from modelrunner.memory.model.shape import ModelShape

        shape = ModelShape.from_header(self.first, shards=self.shards[1:])
        return shape.with_adapter(self.adapter_bytes) if self.adapter_bytes else shape


def of_stored(model: StoredModel) -> Headers:
    """The headers of a stored model.

    Raises:
        UnsupportedArtifactError: It is a model of another format.
        MalformedGGUFError: A file is not a GGUF, or cut off.
        CorruptStoreError: A blob is missing.
    """
    model.unpack()
    model.artifact.require_runnable(name_of(model))
    found = []
    for layer in model.artifact.weights:
        path = model.blob(layer.descriptor)
        if not path.is_file():
            raise missing(model, layer.descriptor)
        found.append(_named(path, str(layer.path)))
    return _judged(_with_sizes(found, model.artifact), model.artifact, partial(_here, model))


def name_of(model: StoredModel) -> str:
    """What a stored model is called: its first name, or its ID."""
    return next((name.short for name in model.references), model.digest.short)


def projector_problem(projector: Header, model: Metadata) -> str | None:
    """Why a file cannot be the projector of a model; None where it can."""
    found = Metadata.from_header(projector)
    if found.kind != "projector":
        return f"expected a projector, got {with_article(found.kind)}"
    return misfit(projector, model.embedding_length)


def _judged(
    found: Headers, artifact: ModelArtifact, header_of: Callable[[Layer], Header]
) -> Headers:
    """The headers without a projector that does not go with the weights."""
    layer = artifact.projector
    if layer is None or not found.shards:
        return found
    projector = None
    try:
        projector = header_of(layer)
        problem = projector_problem(projector, found.metadata)
    except MalformedGGUFError as exc:
        problem = exc.message
    if problem is None:
        return found._replace(projector=projector)
    problem_line = f"{layer.path} is not used: {problem}"
    return found._replace(projector_bytes=None, projector_problem=problem_line)


def _here(model: StoredModel, layer: Layer) -> Header:
    path = model.blob(layer.descriptor)
    if not path.is_file():
        raise missing(model, layer.descriptor)
    return _named(path, str(layer.path))


def of_file(path: Path) -> Headers:
    """The headers of a file, with all its shards.

    Raises:
        UsageError: The file does not exist.
        MalformedGGUFError: It is not a GGUF, or shards are missing.
    """
    shards = shard_files(path)
    for shard in shards:
        refuse_other_formats(shard)
    return Headers([read_header(shard) for shard in shards])


def of_remote(
    source: "Source",
    reference: Reference,
    artifact: ModelArtifact,
    read: "Callable[[Source, Reference, Descriptor], Header] | None" = None,
) -> Headers:
    """The headers of a model in a registry.

    Args:
        source: The registry.
        reference: The model, by its digest.
        artifact: What its manifest says.
        read: Reads the header of one file; None for `read_remote`.

    Raises:
        UnsupportedArtifactError: It is a model of another format.
        HeaderTooLongError: One has more than `REMOTE_LIMIT` bytes.
        MalformedGGUFError: It is not GGUF.
        TransferError: The registry does not deliver.
    """
    artifact.require_runnable(reference.short.partition("@")[0])
    read = read or read_remote
    weights = [layer.descriptor for layer in artifact.weights]
    shards = [read(source, reference, descriptor) for descriptor in weights]

    def there(layer: Layer) -> Header:
        return read(source, reference, layer.descriptor)

    return _judged(_with_sizes(shards, artifact), artifact, there)


def _with_sizes(shards: Sequence[Header], artifact: ModelArtifact) -> Headers:
    projector, adapter = artifact.projector, artifact.adapter
    return Headers(
        shards,
        projector.descriptor.size if projector else None,
        adapter.descriptor.size if adapter else 0,
    )


def _named(path: Path, name: str) -> Header:
    with open_content(path) as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.content(length)

        return parse_header(read, path.stat().st_size, name=name)


def read_remote(source: "Source", reference: Reference, descriptor: Descriptor) -> Header:
    """Return the header of one file in a registry.

    Raises:
        HeaderTooLongError, MalformedGGUFError, TransferError: As with `of_remote`.
    """
    read = remote_ranges(source, reference, descriptor, limit=REMOTE_LIMIT)
    try:
        return parse_header(
            read, descriptor.size, limit=REMOTE_LIMIT, name=f"blob {descriptor.digest.short}"
        )
    except MalformedGGUFError as exc:
        raise type(exc)(f"{reference.short}: {exc.message}", hint=exc.hint) from exc


def remote_ranges(
    source: "Source", reference: Reference, descriptor: Descriptor, *, limit: int
) -> Callable[[int, int], bytes]:
    """Return what reads parts of a blob in a registry.

    Args:
        source: The registry.
        reference: The model, by its digest.
        descriptor: The blob.
        limit: Bytes of its front that are read at most where the source knows no parts.
    """
    front: list[bytes] = []

    def read(offset: int, length: int) -> bytes:
        if front:
            return front[0][offset : offset + length]
        stop = min(offset + length, descriptor.size)
        try:
            with source.open_blob(reference, descriptor, offset, stop) as stream:
                return _filled(stream, stop - offset)
        except RangesUnsupportedError:
            # a source that knows no parts: the front of the whole, and then no more
            with source.open_blob(reference, descriptor) as stream:
                front.append(_filled(stream, min(limit, descriptor.size)))
            return read(offset, length)

    return read


def _filled(stream: "BlobStream", length: int) -> bytes:
    """So many bytes of a stream, fewer where it ends."""
    found = bytearray(length)
    view = memoryview(found)
    filled = 0
    while filled < length:
        count = stream.readinto(view[filled:])
        if count == 0:
            break
        filled += count
    return bytes(view[:filled])
