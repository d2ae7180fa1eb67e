"""What a model is judged by, without its weights: from the store, or still in a registry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from modelrunner.disk.inside import open_content
from modelrunner.gguf.header import Header
from modelrunner.gguf.reader import read_header
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.model.layers import Layer
from modelrunner.oci.reference import Reference
from modelrunner.operations.model import configs, headers
from modelrunner.operations.model.resolve import artifact_at
from modelrunner.operations.model.suggestions import pin
from modelrunner.registry.source import Source
from modelrunner.store.store import StoredModel


class Material(Protocol):
    """A model whose small parts can be read."""

    @property
    def digest(self) -> Digest:
        """The model's ID."""
        ...

    @property
    def references(self) -> Sequence[Reference]:
        """Its names."""
        ...

    @property
    def artifact(self) -> ModelArtifact:
        """Its manifest, understood."""
        ...

    @property
    def config(self) -> ModelConfig:
        """Its config."""
        ...

    def header(self, layer: Layer) -> Header:
        """Return the header of a file.

        Raises:
            MalformedGGUFError: It is not one.
            CorruptStoreError, OSError, TransferError: It cannot be read.
        """
        ...

    def front(self, layer: Layer, limit: int) -> bytes:
        """Return the first bytes of a file.

        Raises:
            CorruptStoreError, OSError, TransferError: It cannot be read.
        """
        ...


@dataclass(frozen=True)
class StoredMaterial:
    """A model of the store."""

    model: StoredModel

    @property
    def digest(self) -> Digest:
        """See `Material`."""
        return self.model.digest

    @property
    def references(self) -> Sequence[Reference]:
        """See `Material`."""
        return self.model.references

    @property
    def artifact(self) -> ModelArtifact:
        """See `Material`."""
        return self.model.artifact

    @property
    def config(self) -> ModelConfig:
        """See `Material`."""
        return self.model.config

    def header(self, layer: Layer) -> Header:
        """See `Material`."""
        return read_header(self.model.blob(layer.descriptor))

    def front(self, layer: Layer, limit: int) -> bytes:
        """See `Material`."""
        with open_content(self.model.blob(layer.descriptor)) as file:
            return file.content(limit)


@dataclass(frozen=True)
class RemoteMaterial:
    """A model in a registry, of which headers and small files are read by ranges."""

    source: Source
    reference: Reference
    exact: Reference
    artifact: ModelArtifact
    config: ModelConfig

    @classmethod
    def at(cls, source: Source, reference: Reference) -> "RemoteMaterial":
        """Return the model that a name stands for.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: The registry does not have it.
            UnsupportedArtifactError: It is not a model.
        """
        exact = pin(source, reference)
        artifact = artifact_at(source, exact)
        config = configs.of_remote(source, exact, artifact)
        return cls(source, reference, exact, artifact, config)

    @property
    def digest(self) -> Digest:
        """See `Material`."""
        return self.artifact.manifest.digest

    @property
    def references(self) -> Sequence[Reference]:
        """See `Material`."""
        return (self.reference,)

    def header(self, layer: Layer) -> Header:
        """See `Material`."""
        return headers.read_remote(self.source, self.exact, layer.descriptor)

    def front(self, layer: Layer, limit: int) -> bytes:
        """See `Material`."""
        read = headers.remote_ranges(self.source, self.exact, layer.descriptor, limit=limit)
        return read(0, min(limit, layer.descriptor.size))
