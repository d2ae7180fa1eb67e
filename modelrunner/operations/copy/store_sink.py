"""The local store as what a copy goes to: models only, named last as by a pull."""

from contextlib import suppress
from dataclasses import dataclass, field

from modelrunner.errors import (
    MalformedManifestError,
    ManifestNotFoundError,
    ModelNotFoundError,
    SizeMismatchError,
    UnsupportedArtifactError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer, subject_of
from modelrunner.operations.model.configs import understood
from modelrunner.operations.model.contents import require_unpacked, require_weights
from modelrunner.operations.package.push_blobs import Contents
from modelrunner.registry.http.file_body import FileContent
from modelrunner.registry.source import Framed, Outflow, UploadContent
from modelrunner.store.store import Store
from modelrunner.store.unpacked.record import files_of
from modelrunner.store.views import require_names
from modelrunner.transfer.passage import SourceFailedError


@dataclass
class StoreSink:
    """A store as a sink, for several threads.

    Attributes:
        store: The store.
        digest: The model that is copied.
    """

    store: Store
    digest: Digest
    _referrers: list[Referrer] = field(default_factory=list, init=False)

    @property
    def name(self) -> str:
        """The store."""
        return "the local store"

    def resolve(self, reference: Reference) -> Digest:
        """See `Sink.resolve`."""
        found = self.store.complete(reference)
        if found is None:
            raise ManifestNotFoundError(f"{reference.short}: not in the local store")
        return found.digest

    def manifest(self, reference: Reference) -> Manifest:
        """See `Sink.manifest`."""
        with suppress(ModelNotFoundError):
            return self.store.resolve(str(reference)).manifest
        raise ManifestNotFoundError(f"{reference.short}: not in the local store")

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether a blob has its name, which it gets when it is right."""
        del reference
        return self.store.blobs.path(digest).exists()

    def mount_blob(self, reference: Reference, digest: Digest, repository: str) -> bool:
        """There is nothing to mount from."""
        del reference, digest, repository
        return False

    def another(self) -> "StoreSink":
        """Itself: each blob has a file of its own."""
        return self

    def close(self) -> None:
        """Nothing is open between two blobs."""

    def upload(
        self, reference: Reference, descriptor: Descriptor, content: Framed | UploadContent
    ) -> "_StoreUpload":
        """See `Sink.upload`."""
        del reference
        read = FileContent(content, descriptor.size) if isinstance(content, Framed) else content
        return _StoreUpload(self.store, descriptor, read)

    def push_manifest(self, reference: Reference, manifest: Manifest | Index) -> Digest | None:
        """Name the model, or note what refers to it: that is kept with its name."""
        if not isinstance(manifest, Manifest):
            raise UnsupportedArtifactError(
                f"{reference.short}: the local store has models, and no indexes",
                hint="`modelrunner pull` takes the model out of an index",
            )
        if manifest.digest != self.digest:
            self.store.blobs.put(manifest.descriptor, manifest.raw)
            self._referrers.append(Referrer.of(manifest, reference.tag))
            return self._subject(manifest)
        if reference.tag is None:
            # it comes before what refers to it, and has its name after that
            self.store.blobs.put(manifest.descriptor, manifest.raw)
            return None
        config = self.store.blobs.read(manifest.config)
        artifact = understood(manifest, config, known=_is_kept(self.store, manifest))
        artifact.config(config)
        for layer in artifact.layers:
            require_weights(self.store.blobs, reference.short, layer)
        if artifact.is_archived:
            # what cannot be unpacked gets no name
            require_unpacked(self.store.blobs, reference.short, artifact)
        self.store.add(manifest, [reference], referrers=self._referrers).view()
        return None

    def _subject(self, manifest: Manifest) -> Digest | None:
        with suppress(MalformedManifestError):
            found = subject_of(manifest)
            return None if found is None else found.digest
        return None


class _StoreUpload:
    """One blob on its way into a store."""

    def __init__(self, store: Store, descriptor: Descriptor, content: UploadContent) -> None:
        self._store = store
        self._descriptor = descriptor
        self._content = content

    def send(self, flow: Outflow) -> None:
        """Write it; raises what `BlobStore.writer` does."""
        with self._store.blobs.writer(self._descriptor, resumable=False) as writer:
            if writer is None:
                return
            with self._content.opened() as content:
                for part in content.body(0, self._descriptor.size, flow):
                    pieces = (part,) if isinstance(part, memoryview) else part
                    for piece in pieces:  # type: ignore[attr-defined]
                        writer.write(piece)


def require_model(store: Store, manifest: Manifest | Index, name: str, contents: Contents) -> None:
    """Refuse what the store does not hold, before a blob moves.

    Args:
        store: The store.
        manifest: It.
        name: What it is called.
        contents: Has its blobs: of an image, the config may have to say that it is a model.

    Raises:
        UnsupportedArtifactError: It is not a model, or an index.
        IntegrityError: It names files that it may not.
        ModelRunnerError: The config cannot be read.
    """
    if not isinstance(manifest, Manifest):
        raise UnsupportedArtifactError(
            f"{name}: the local store has models, and no indexes",
            hint="`modelrunner pull` takes the model out of an index",
        )
    config = None
    if manifest.is_image:
        with suppress(UnsupportedArtifactError):
            require_names(store.layout, ModelArtifact.from_manifest(manifest))
            return
        config = _read(contents.of(manifest.config), manifest.config)
    require_names(store.layout, understood(manifest, config, known=_is_kept(store, manifest)))


def _is_kept(store: Store, manifest: Manifest) -> bool:
    """Whether it is in the store already: an image that says nothing was unpacked as a model."""
    return files_of(store.layout, manifest.digest) is not None


def _read(content: Framed | UploadContent, blob: Descriptor) -> bytes:
    """A small blob, verified by who reads it.

    Raises:
        IntegrityError: It is not what the manifest promises.
        ModelRunnerError: The source does not deliver.
    """
    if blob.size > MAX_BYTES:
        raise SizeMismatchError(f"the config has {blob.size} bytes, more than {MAX_BYTES}")
    read = FileContent(content, blob.size) if isinstance(content, Framed) else content
    raw = bytearray()
    try:
        with read.opened() as opened:
            for part in opened.body(0, blob.size, Outflow(_unheard, _unheard, _unheard)):
                pieces = (part,) if isinstance(part, memoryview) else part
                for piece in pieces:  # type: ignore[attr-defined]
                    raw += piece
    except SourceFailedError as exc:
        raise exc.error from exc
    return bytes(raw)


def _unheard(_count: int) -> None:
    """Nobody is told how far it is."""
