"""What a model is for: one that does not chat is refused before gigabytes are downloaded."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelrunner.errors import ModelRunnerError, UnsupportedArtifactError
from modelrunner.frozen import replace
from modelrunner.gguf.header import Value
from modelrunner.gguf.metadata import Metadata, Purpose, purpose_of
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.reference import Reference
from modelrunner.operations.model import headers
from modelrunner.text import with_article

if TYPE_CHECKING:
    from modelrunner.registry.source import Source

_LONGEST_NUMBER = 20


def require_model(metadata: Metadata, name: str) -> None:
    """Accept the weights of a model.

    Raises:
        UnsupportedArtifactError: They are a file that belongs to a model; the message says which.
    """
    if metadata.kind != "model":
        raise UnsupportedArtifactError(
            f"{name} is {with_article(metadata.kind)}, not a model",
            hint="run the model that it belongs to",
            kind=metadata.kind,
        )


def require_chat(purpose: Purpose, name: str, architecture: str | None) -> None:
    """Accept a model that writes text.

    Raises:
        UnsupportedArtifactError: It scores documents or makes vectors.
    """
    if purpose == "ranking":
        raise UnsupportedArtifactError(
            f"{name} is a reranking model: it cannot chat",
            hint=f"serve it with `modelrunner serve {name}` and use POST /v1/rerank",
            architecture=architecture,
        )
    if purpose == "embedding":
        raise UnsupportedArtifactError(
            f"{name} is an embedding model: it cannot chat",
            hint=f"serve it with `modelrunner serve {name}` and use POST /v1/embeddings",
            architecture=architecture,
        )


def require_chat_remotely(
    source: "Source", reference: Reference, artifact: ModelArtifact, config: ModelConfig
) -> None:
    """Accept a model in a registry that writes text, before its weights are downloaded.

    The config's copy of the header's values decides, or else the header itself, read by ranges;
    what neither says is left to the start.

    Raises:
        UnsupportedArtifactError: It scores documents or makes vectors, or is not a model.
    """
    # it has a digest here, which nobody has typed
    name = replace(reference, digest=None).short if reference.tag else reference.short
    values: Mapping[str, Value]
    if "general.architecture" in config.gguf:
        values = {
            # bounded: by its length
            key: int(text) if text.isdecimal() and len(text) < _LONGEST_NUMBER else text
            for key, text in config.gguf.items()
        }
    else:
        try:
            metadata = headers.of_remote(source, reference, artifact).metadata
        except ModelRunnerError:
            # the pull meets the same, and says more of it
            return
        require_model(metadata, name)
        values = metadata.values
    architecture = values.get("general.architecture")
    shown = architecture if isinstance(architecture, str) else None
    require_chat(purpose_of(values), name, shown)
