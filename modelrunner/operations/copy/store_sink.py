"""The local store as what a copy goes to: models only, named last as by a pull."""

from contextlib import suppress
from dataclasses import dataclass, field

from modelrunner.errors import (
    MalformedManifestError,
    ManifestNotFoundError,
    ModelNotFoundError,
    UnsupportedArtifactError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer, subject_of
from modelrunner.operations.model.contents import require_unpacked, require_weights
from modelrunner.registry.http.file_body import FileContent
from modelrunner.registry.source import Framed, Outflow, UploadContent
from modelrunner.store.store import Store
from modelrunner.store.views import require_names


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
        artifact = ModelArtifact.from_manifest(manifest)
        artifact.config(self.store.blobs.read(manifest.config))
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


def require_model(manifest: Manifest | Index, name: str) -> None:
    """Refuse what the store does not hold, before a blob moves.

    Raises:
        UnsupportedArtifactError: It is not a model, or an index.
        IntegrityError: It names files that it may not.
    """
    if not isinstance(manifest, Manifest):
        raise UnsupportedArtifactError(
            f"{name}: the local store has models, and no indexes",
            hint="`modelrunner pull` takes the model out of an index",
        )
    require_names(ModelArtifact.from_manifest(manifest))
