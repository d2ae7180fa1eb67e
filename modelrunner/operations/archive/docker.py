"""One model as an archive in the form that Docker Model Runner exports and loads.

```
blobs/  blobs/sha256/       the layers, then the config
manifest.json               the manifest as it is, last: its digest is the model's ID
```
The form has no place for names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from tarfile import BLOCKSIZE
from typing import Self

from modelrunner.oci.descriptor import Descriptor
from modelrunner.operations.archive.contents import Contents
from modelrunner.operations.archive.save import blob_path, folder_header, header, padding
from modelrunner.store.store import Store, StoredModel

MANIFEST = "manifest.json"
_FOLDERS = ("blobs", "blobs/sha256")


@dataclass(frozen=True, slots=True)
class DockerArchive:
    """The archive of one model; nothing of it is on the disk."""

    model: StoredModel
    _contents: Contents

    @classmethod
    def of(cls, store: Store, model: StoredModel) -> Self:
        """Return the archive of a model.

        Raises:
            CorruptStoreError: The manifest or a blob is missing or damaged.
            UnsupportedArtifactError: Another tool has put something else here.
        """
        # what could not be loaded again is not exported
        _artifact = model.artifact
        blobs = model.manifest.blobs
        contents = Contents(store, {blob.digest: model for blob in blobs})
        for blob in blobs:
            contents.require(blob)
        return cls(model, contents)

    @property
    def size(self) -> int:
        """Bytes of the whole archive."""
        sizes = {blob_path(blob): blob.size for blob in self._blobs}
        sizes[MANIFEST] = len(self.model.manifest.raw)
        files = sum(len(header(name, size)) + size + padding(size) for name, size in sizes.items())
        # two empty blocks are the end
        return files + (len(_FOLDERS) + 2) * BLOCKSIZE

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield its bytes; each chunk is valid until the next.

        Raises:
            CorruptStoreError: A blob is missing or damaged: the archive is not complete.
        """
        for folder in _FOLDERS:
            yield folder_header(folder)
        for blob in self._blobs:
            yield header(blob_path(blob), blob.size)
            yield from self._contents.read(blob)
            yield bytes(padding(blob.size))
        raw = self.model.manifest.raw
        yield header(MANIFEST, len(raw)) + raw + bytes(padding(len(raw)))
        yield bytes(2 * BLOCKSIZE)

    @property
    def _blobs(self) -> tuple[Descriptor, ...]:
        """Each blob once, the config last."""
        manifest = self.model.manifest
        found = {blob.digest: blob for blob in manifest.blobs}
        config = found.pop(manifest.config.digest)
        return (*found.values(), config)
