"""The artifact that weights of another program become.

Files of a repository of the Hugging Face Hub become what a pull makes of them; for others it is
made from names, sizes and digests and what the header says, without a time: the same everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
from modelrunner.runtime.packaged import Packaged
from modelrunner.store.adopt import TakenFile
from modelrunner.text import listed, with_article

_CONTEXT = "num_ctx"
"""What Ollama calls the context."""

_MOST_TOKENS = 2**31


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
        parameters = [hub for file, hub in listed.items() if file.role == "parameters"]
        made = hub_artifact(model, parameters[0] if parameters else None)
        return made.manifest, made.config
    types = LAYER_TYPES["docker"]
    layers = [
        Descriptor(
            types[file.role], blob.digest, blob.size, {media_types.ANNOTATION_PATH: file.name}
        )
        for file, blob in blobs.items()
    ]
    name = found.reference.repository
    advice = advice_of(found)
    config = config_of(metadata, "docker", context_length=advice.context, settings=advice.settings)
    return assemble(config, layers, metadata, name)


@dataclass(frozen=True, slots=True)
class Advice:
    """How another program runs a model, as settings of an artifact.

    Attributes:
        context: The context; None where it sets none.
        settings: Settings by their names in a config.
        left_out: Parameters that no setting stands for, by that program's names.
    """

    context: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def advice_of(found: FoundModel) -> Advice:
    """Return how its program runs a model; of what nobody can follow, the names."""
    wanted = {name: value for name, value in found.parameters.items() if name != _CONTEXT}
    if found.system is not None:
        wanted["system"] = found.system
    packaged = Packaged.read(wanted)
    context = found.parameters.get(_CONTEXT)
    if isinstance(context, int) and not isinstance(context, bool) and 0 < context < _MOST_TOKENS:
        return Advice(context, packaged.to_dict(), packaged.ignored)
    unusable = () if context is None else (_CONTEXT,)
    return Advice(None, packaged.to_dict(), (*packaged.ignored, *unusable))


def left_out_of(found: FoundModel, metadata: Metadata | None = None) -> tuple[str, ...]:
    """Return what of a model is not taken, and why, a clause each.

    Args:
        found: The model.
        metadata: What its header says, where it was read.
    """
    clauses = list(found.left_out)
    if found.template is not None and (metadata is None or metadata.has_chat_template):
        clauses.append("its Go template is not supported: the template in the GGUF file is used")
    elif found.template is not None:
        clauses.append(
            "its Go template is not supported, and the GGUF file has none: add --chat-template"
            " to `run`, or it continues text"
        )
    unknown = advice_of(found).left_out
    if unknown:
        clauses.append(f"its {_named(unknown)}")
    return tuple(clauses)


def _named(names: Sequence[str]) -> str:
    said = f"{'parameter' if len(names) == 1 else 'parameters'} {listed(names)}"
    own = "stop" in names
    return f"{said}; end-of-turn tokens end an answer, --stop adds others" if own else said
