"""What a registry says of a model, for the clients of a server."""

from datetime import datetime

from modelrunner.errors import IntegrityError, UnsupportedArtifactError
from modelrunner.frozen import replace
from modelrunner.oci.reference import Reference
from modelrunner.operations.model import configs, headers
from modelrunner.operations.model.resolve import artifact_at
from modelrunner.operations.model.rows import utc
from modelrunner.operations.model.suggestions import pin
from modelrunner.registry.source import Source
from modelrunner.serve.library import RemoteModel
from modelrunner.serve.models import Facts


def remote_model(source: Source, reference: Reference) -> RemoteModel:
    """Return what the manifest and the config of a model say, and its header where they do not.

    Raises:
        ManifestNotFoundError: No such tag; the near ones are named.
        UnsupportedArtifactError: It is not a model.
        AccessError, TransferError: The registry does not answer.
        IntegrityError: What it answers is not what the manifest promises.
    """
    pinned = pin(source, reference)
    artifact = artifact_at(source, pinned)
    config = configs.of_remote(source, pinned, artifact)
    found = RemoteModel(
        digest=artifact.manifest.digest,
        facts=Facts(
            created=_seconds(config.created),
            architecture=config.architecture,
            parameters=config.parameters,
            quantization=config.quantization,
            size_bytes=artifact.manifest.total_bytes,
        ),
        format=config.format or artifact.format,
        context=config.context_length,
        gguf=dict(config.gguf),
    )
    known = (config.architecture, config.parameters, config.quantization, config.context_length)
    if None not in known:
        return found
    try:
        metadata = headers.of_remote(source, pinned, artifact).metadata
    except (IntegrityError, UnsupportedArtifactError):
        # weights of another format, or broken: what the config says is all
        return found
    facts = replace(
        found.facts,
        architecture=config.architecture or metadata.architecture,
        parameters=config.parameters or metadata.parameters_text,
        quantization=config.quantization or metadata.quantization,
    )
    return replace(found, facts=facts, context=found.context or metadata.context_length)


def _seconds(created: str | None) -> int | None:
    """A config's time in seconds since the epoch; None where it says none or nonsense."""
    said = utc(created)
    # bounded: a time that was parsed already
    return None if said is None else int(datetime.fromisoformat(said).timestamp())
