"""The artifact that weights of another program become.

Files of a repository of the Hugging Face Hub become what a pull makes of them; for others it is
made from names, sizes and digests and what the header says, without a time: the same everywhere.
"""

from collections.abc import Sequence

from modelrunner.errors import UnsupportedArtifactError
from modelrunner.foreign.found import FoundModel
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import read_header
from modelrunner.oci import media_types
from modelrunner.oci.config import ModelConfig
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.hub_artifact import hub_artifact
from modelrunner.oci.hub_files import HubFile, HubModel, quantization_of
from modelrunner.oci.manifest import Manifest
from modelrunner.store.taking import TakenFile
from modelrunner.units import format_size

_TYPES = {
    "weights": media_types.DOCKER_GGUF,
    "projector": media_types.DOCKER_PROJECTOR,
    "template": media_types.DOCKER_TEMPLATE,
    "license": media_types.DOCKER_LICENSE,
}


def metadata_of(found: FoundModel) -> Metadata:
    """What the headers of its weights say.

    Raises:
        UnsupportedArtifactError, MalformedGGUFError: It is no model.
        UsageError, StoreAccessError: It cannot be read.
    """
    weights = [file for file in found.files if file.role == "weights"]
    headers = [read_header(file.file) for file in weights]
    metadata = Metadata.from_header(headers[0], shards=headers[1:])
    if metadata.kind != "model":
        raise UnsupportedArtifactError(
            f"{weights[0].file} is a {metadata.kind}, not a model",
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
    layers = [
        Descriptor(
            _TYPES[file.role], blob.digest, blob.size, {media_types.ANNOTATION_PATH: file.name}
        )
        for file, blob in blobs.items()
    ]
    config = ModelConfig(
        "docker",
        format="gguf",
        architecture=metadata.architecture,
        parameters=metadata.parameters_text,
        quantization=metadata.quantization,
        context_length=metadata.context_length,
        gguf=metadata.string_values(),
    )
    size = format_size(metadata.tensor_bytes).replace(" ", "")
    raw = config.to_docker([layer.digest for layer in layers], size)
    about = Descriptor(media_types.DOCKER_CONFIG_V01, Digest.of(raw), len(raw))
    return Manifest.build(about, layers), raw
