"""The image of a model in the store, under the model's name.

Its layers are blobs of their own, since a tar begins before its file; the files themselves stay
beside them, as with any image that was pulled. It is that of the first platform: a store has
manifests and no indexes, and a push makes the others of it.
"""

from modelrunner.events import Listener, ignore
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.reference import Reference
from modelrunner.operations.archive.contents import Contents
from modelrunner.operations.disk_space import require_room_for_copies
from modelrunner.operations.package.image import ModelImage, image_of
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.sweep import remove_blobs_of
from modelrunner.store.unpacked import record


def keep_image(
    store: Store, model: StoredModel, name: Reference, listener: Listener = ignore
) -> StoredModel:
    """Make an image of a stored model that has the name from then on.

    Args:
        store: Where both are.
        model: The model; what nobody else needs of it goes.
        name: Its name.
        listener: Called while files are read.

    Raises:
        CorruptStoreError: A blob of the model is missing or damaged.
        DiskFullError, StoreAccessError: It cannot be stored.
    """
    made = image_of(store, model, name, listener)
    image = made.images[0]
    with store.arriving():
        absent = [blob for blob in image.manifest.blobs if store.blobs.state(blob) != "good"]
        require_room_for_copies(store, sum(blob.size for blob in absent))
        for blob in absent:
            _write(store, model, made, blob)
        found = tuple(
            record.file_of(str(layer.path), layer.descriptor.digest.hex, layer.descriptor.size)
            for layer in model.artifact.files
        )
        record.write(store.layout, image.manifest.digest, found)
        kept = store.add(image.manifest, [name])
    if model.digest != kept.digest and store.find(name.with_digest(model.digest)) is None:
        remove_blobs_of(store, model)
    kept.view()
    return kept


def _write(store: Store, model: StoredModel, made: ModelImage, blob: Descriptor) -> None:
    """Write a layer or a config; its file is read, and verified, on the way."""
    framed, source = made.contents[blob.digest], made.sources.get(blob.digest)
    with store.blobs.writer(blob) as writer:
        if writer is None:
            return
        writer.resume_at(0)
        writer.write(framed.before)
        if source is not None:
            for piece in Contents(store, {source.digest: model}).read(source):
                writer.write(piece)
        writer.write(framed.after)
