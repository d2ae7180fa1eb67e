"""An artifact made of GGUF files whose layers are known: its config and its manifest.

The facts of the config come from the files' own headers.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from modelrunner.gguf.metadata import Metadata
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import Family, ModelConfig
from modelrunner.units import format_moment, format_size

LAYER_TYPES: dict[Family, dict[str, str]] = {
    "docker": {
        "weights": media_types.DOCKER_GGUF,
        "projector": media_types.DOCKER_PROJECTOR,
        "template": media_types.DOCKER_TEMPLATE,
        "license": media_types.DOCKER_LICENSE,
    },
    "modelpack": {
        "weights": media_types.MODELPACK_WEIGHT,
        "projector": media_types.MODELPACK_WEIGHT,
        "template": media_types.MODELPACK_WEIGHT_CONFIG,
        "license": media_types.MODELPACK_DOC,
    },
}
"""Media types of layers, by what they are for."""


def config_of(
    metadata: Metadata,
    family: Family,
    *,
    created: datetime | None = None,
    context_length: int | None = None,
    settings: Mapping[str, object] | None = None,
) -> ModelConfig:
    """What the config says.

    Args:
        metadata: Of the weights.
        family: Docker's artifact, or CNCF ModelPack's.
        created: When; without it, the same files give the same config at any time.
        context_length: To be said instead of the header's.
        settings: What is advised for a launch.
    """
    return ModelConfig(
        family,
        format="gguf",
        architecture=metadata.architecture,
        parameters=metadata.parameters_text,
        quantization=metadata.quantization,
        context_length=context_length or metadata.context_length,
        created=None if created is None else format_moment(created.astimezone(UTC)),
        gguf=metadata.string_values(),
        settings=settings or {},
    )


def assemble(
    config: ModelConfig,
    layers: Sequence[Descriptor],
    metadata: Metadata,
    name: str,
    annotations: Mapping[str, str] | None = None,
) -> tuple[Manifest, bytes]:
    """The manifest, and the bytes of the config that it names.

    Args:
        config: What the config says; its family is the artifact's.
        layers: In their order.
        metadata: Of the weights.
        name: Of a model whose header has none.
        annotations: Of the manifest.

    Raises:
        MalformedManifestError, UnsupportedArtifactError: The layers make up no model.
    """
    digests = [layer.digest for layer in layers]
    if config.family == "docker":
        raw = config.to_docker(digests, format_size(metadata.tensor_bytes).replace(" ", ""))
        media_type, artifact_type = media_types.DOCKER_CONFIG_V01, None
    else:
        raw = config.to_modelpack(digests, metadata.name or name)
        media_type, artifact_type = media_types.MODELPACK_CONFIG, media_types.MODELPACK_ARTIFACT
    about = Descriptor(media_type, Digest.of(raw), len(raw))
    manifest = Manifest.build(about, layers, artifact_type=artifact_type, annotations=annotations)
    ModelArtifact.from_manifest(manifest)
    return manifest, raw
