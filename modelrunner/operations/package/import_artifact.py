"""The artifact that weights of another program become.

Files of a repository of the Hugging Face Hub become what a pull makes of them; for others it is
made from names, sizes and digests and what the header says, without a time: the same everywhere.
"""

from collections.abc import Sequence

from modelrunner.errors import UnsupportedArtifactError
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import read_header
from modelrunner.huggingface.artifact import hub_artifact
from modelrunner.huggingface.files import HubFile, HubModel
from modelrunner.huggingface.names import quantization_of
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import Manifest
from modelrunner.operations.model.contents import refuse_other_formats
from modelrunner.operations.package.build_artifact import LAYER_TYPES, assemble, config_of
from modelrunner.other_stores.found import FoundModel
from modelrunner.store.adopt import TakenFile
from modelrunner.text import with_article


def metadata_of(found: FoundModel) -> Metadata:
    """What the headers of its weights say.

    Raises:
        UnsupportedArtifactError, MalformedGGUFError: It is not a model.
        UsageError, StoreAccessError: It cannot be read.
    """
    weights = [file for file in found.files if file.role == "weights"]
    for file in weights:
        refuse_other_formats(file.file)
    headers = [read_header(file.file) for file in weights]
    metadata = Metadata.from_header(headers[0], shards=headers[1:])
    if metadata.kind != "model":
        raise UnsupportedArtifactError(
            f"{weights[0].file} is {with_article(metadata.kind)}, not a model",
            hint="name the model that it belongs to",
        )
    return metadata


def artifact_of(
    found: FoundModel, metadata: Metadata, taken: Sequence[TakenFile]
) -> tuple[Manifest, bytes]:
    """The manifest and the config of a model whose files are blobs now."""
    blobs = dict(zip(found.files, taken, strict=True))
    if found.on_hub:
        listed = {file: HubFile(file.path, blob.size, blob.digest) for file, blob in blobs.items()}
        weights = tuple(hub for file, hub in listed.items() if file.role == "weights")
        projectors = [hub for file, hub in listed.items() if file.role == "projector"]
        quantization = quantization_of(weights[0].path)
        model = HubModel(quantization, weights, projectors[0] if projectors else None)
        made = hub_artifact(model)
        return made.manifest, made.config
    types = LAYER_TYPES["docker"]
    layers = [
        Descriptor(
            types[file.role], blob.digest, blob.size, {media_types.ANNOTATION_PATH: file.name}
        )
        for file, blob in blobs.items()
    ]
    name = found.reference.repository
    return assemble(config_of(metadata, "docker"), layers, metadata, name)
