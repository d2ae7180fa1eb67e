"""The artifact that a model of the Hugging Face Hub is made into, the same wherever it is made."""

from collections.abc import Iterator, Sequence

from modelrunner.frozen import frozen, replace
from modelrunner.huggingface.files import HubFile, HubModel, every
from modelrunner.huggingface.names import Kind, said_of
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.config import ModelConfig
from modelrunner.units import format_size

PARAMETER_FILES = ("params", "generation_config.json")
"""Files at the top of a repository that say how its models are sampled; the first that is there
counts. `params` is Ollama's, `generation_config.json` that of transformers."""

SMALL_LIMIT = 64 * 1024
"""Bytes of a file of parameters; a larger one is another file."""


@frozen
class HubArtifact:
    """A manifest, the config that it names, and the model that both are of, if it is one."""

    manifest: Manifest
    config: bytes
    model: HubModel[HubFile] | None


def hub_artifact(model: HubModel[HubFile], parameters: HubFile | None = None) -> HubArtifact:
    """The artifact: nothing but names, sizes and digests is in it.

    Args:
        model: Its files.
        parameters: The repository's file of parameters.
    """
    more = [] if parameters is None else [parameters]
    config = _config(model, more)
    layers = [_layer(file, media_types.DOCKER_GGUF) for file in model.files]
    if model.projector is not None:
        layers.append(_layer(model.projector, media_types.DOCKER_PROJECTOR))
    layers += [_layer(file, media_types.DOCKER_FILE) for file in more]
    about = Descriptor(media_types.DOCKER_CONFIG_V01, Digest.of(config), len(config))
    return HubArtifact(Manifest.build(about, layers), config, model)


def hub_artifacts(
    files: Sequence[HubFile], parameters: HubFile | None = None
) -> Iterator[HubArtifact]:
    """Every artifact that a repository's files may have been made into, by any rule.

    Which projector goes with a model, what a name says of its quantization, and whether parameters
    are taken too, are rules that get better; what was pinned by an older one is still found.
    """
    projectors = [file for file in files if said_of(file.path).kind is Kind.PROJECTOR]
    for model in every(files):
        for projector in dict.fromkeys((model.projector, None, *projectors)):
            for quantization in dict.fromkeys((model.quantization, None)):
                found = replace(model, quantization=quantization, projector=projector, others=())
                for more in dict.fromkeys((parameters, None)):
                    yield hub_artifact(found, more)


def _config(model: HubModel[HubFile], more: Sequence[HubFile]) -> bytes:
    config = ModelConfig("docker", format="gguf", quantization=model.quantization)
    digests = [file.digest for file in model.files]
    if model.projector is not None:
        digests.append(model.projector.digest)
    digests += [file.digest for file in more]
    return config.to_docker(digests, format_size(model.size).replace(" ", ""))


def _layer(file: HubFile, media_type: str) -> Descriptor:
    return Descriptor(media_type, file.digest, file.size, {media_types.ANNOTATION_PATH: file.name})
