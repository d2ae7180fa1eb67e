"""The image of a stored model (a modelcar), to be pushed: nothing of it is written to disk.

Each file of the model is read once for the digest of the layer that holds it, and once more when
it is sent. The layers with weights come first: images that differ in a template or a license then
share what lies below, on a node as at a registry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modelrunner.errors import UnsupportedArtifactError
from modelrunner.events import Finished, Listener, Planned, Started, Verified, ignore
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index
from modelrunner.oci.model.layers import Layer, Role
from modelrunner.oci.modelcar import layer as framing
from modelrunner.oci.modelcar.image import About, File, Image, images, index_of
from modelrunner.oci.reference import Reference
from modelrunner.operations.archive.contents import Contents
from modelrunner.operations.model.header_facts import header_facts
from modelrunner.registry.source import Framed
from modelrunner.store.hashing import SideHash
from modelrunner.store.store import Store, StoredModel

_FIRST = (Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER)


@dataclass(frozen=True, slots=True)
class ModelImage:
    """An image that can be pushed.

    Attributes:
        index: What its name is to point to.
        images: One for each platform.
        contents: What each blob is read from.
        sources: The blob that is in each layer.
    """

    index: Index
    images: tuple[Image, ...]
    contents: Mapping[Digest, Framed] = field(repr=False)
    sources: Mapping[Digest, Descriptor] = field(default_factory=dict, repr=False)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Layers and configs, each digest once."""
        found = {blob.digest: blob for image in self.images for blob in image.manifest.blobs}
        return tuple(found.values())


def image_of(
    store: Store, model: StoredModel, name: Reference, listener: Listener = ignore
) -> ModelImage:
    """Return the image of a stored model.

    What it says of its model is the same wherever it is made: a name and a digest only of a model
    that a registry has.

    Args:
        store: Where the model is.
        model: The model.
        name: The name by which it is known.
        listener: Called while files are read.

    Raises:
        CorruptStoreError: A blob is missing or damaged.
        UnsupportedArtifactError: No file of the model has a name.
    """
    model.unpack()
    layers = _ordered(model)
    if not layers:
        raise UnsupportedArtifactError(
            f"{name.short}: no file of the model has a name, which an image needs",
            hint="package its file: `modelrunner package FILE.gguf REF`",
        )
    listener(Planned(name.short, sum(layer.descriptor.size for layer in layers), 0, 0))
    reading = Contents(store, {layer.descriptor.digest: model for layer in layers})
    files, contents, sources = [], {}, {}
    for layer in layers:
        file, content = _framed(reading, layer, listener)
        files.append(file)
        contents[file.digest], sources[file.digest] = content, layer.descriptor
    about = _about(model, name)
    made = images(files, about)
    for image in made:
        contents[image.manifest.config.digest] = Framed(None, image.config)
    index = index_of(made, about)
    listener(Finished(name.short, str(index.digest), sum(file.size for file in files)))
    return ModelImage(index, made, contents, sources)


def _ordered(model: StoredModel) -> Sequence[Layer]:
    named = [layer for layer in model.artifact.layers if layer.path is not None]
    first = [layer for role in _FIRST for layer in named if layer.role is role]
    rest = [layer for layer in named if layer.role not in _FIRST]
    return [*first, *sorted(rest, key=lambda layer: str(layer.path))]


def _framed(contents: Contents, layer: Layer, listener: Listener) -> tuple[File, Framed]:
    """Read a file once; return its layer, and what that is read from."""
    blob, path = layer.descriptor, layer.path
    assert path is not None  # noqa: S101 - only such layers are asked for
    before, after = framing.head(path, blob.size), framing.tail(blob.size)
    hasher = SideHash()
    hasher.add(before)
    listener(Started(str(blob.digest), blob.size, 0, path.name))
    for piece in contents.read(blob, listener):
        hasher.add(piece)
    hasher.add(after)
    listener(Verified(str(blob.digest), blob.size))
    size = len(before) + blob.size + len(after)
    found = File(str(path), Digest(hasher.hexdigest()), size)
    return found, Framed(contents.store.blobs.path(blob.digest), before, after)


def _about(model: StoredModel, name: Reference) -> About:
    # what the file says is the same wherever it came from
    config, header = model.config, header_facts(model)
    known = model.published and not name.is_local
    return About(
        name.repository.rpartition("/")[2],
        str(name) if known else None,
        model.digest if known else None,
        {
            "format": model.artifact.format,
            "architecture": header.architecture or config.architecture,
            "parameters": header.parameters or config.parameters,
            "quantization": header.quantization or config.quantization,
        },
    )
