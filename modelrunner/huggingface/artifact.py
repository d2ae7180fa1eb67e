"""The artifact that a model of the Hugging Face Hub is made into, the same wherever it is made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from modelrunner.huggingface.files import HubFile, HubModel, every
from modelrunner.huggingface.names import Kind, said_of
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.config import ModelConfig
from modelrunner.units import format_size


@dataclass(frozen=True, slots=True)
class HubArtifact:
    """A manifest, the config that it names, and what both are of."""

    manifest: Manifest
    config: bytes
    model: HubModel[HubFile]


def hub_artifact(model: HubModel[HubFile]) -> HubArtifact:
    """The artifact: nothing but names, sizes and digests is in it."""
    config = _config(model)
    layers = [_layer(file, media_types.DOCKER_GGUF) for file in model.files]
    if model.projector is not None:
        layers.append(_layer(model.projector, media_types.DOCKER_PROJECTOR))
    about = Descriptor(media_types.DOCKER_CONFIG_V01, Digest.of(config), len(config))
    return HubArtifact(Manifest.build(about, layers), config, model)


def hub_artifacts(files: Sequence[HubFile]) -> Iterator[HubArtifact]:
    """Every artifact that a repository's files may have been made into, by any rule.

    Which projector goes with a model, and what a name says of its quantization, are rules that get
    better; what was pinned by an older one is still found.
    """
    projectors = [file for file in files if said_of(file.path).kind is Kind.PROJECTOR]
    for model in every(files):
        for projector in dict.fromkeys((model.projector, None, *projectors)):
            for quantization in dict.fromkeys((model.quantization, None)):
                yield hub_artifact(
                    replace(model, quantization=quantization, projector=projector, others=())
                )


def _config(model: HubModel[HubFile]) -> bytes:
    config = ModelConfig("docker", format="gguf", quantization=model.quantization)
    digests = [file.digest for file in model.files]
    if model.projector is not None:
        digests.append(model.projector.digest)
    return config.to_docker(digests, format_size(model.size).replace(" ", ""))


def _layer(file: HubFile, media_type: str) -> Descriptor:
    return Descriptor(media_type, file.digest, file.size, {media_types.ANNOTATION_PATH: file.name})
