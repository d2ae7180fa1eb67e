"""Inspect: everything that is known about one model, here or in its registry."""

from collections.abc import Callable

from modelrunner.errors import DigestMismatchError, IntegrityError, SizeMismatchError
from modelrunner.oci.artifact import ModelArtifact
from modelrunner.oci.config import ModelConfig
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES
from modelrunner.oci.reference import Reference
from modelrunner.operations import headers
from modelrunner.operations.headers import Headers
from modelrunner.operations.rows import row_of, utc
from modelrunner.registry.source import Source
from modelrunner.store.store import Store, StoredModel


def inspect_stored(store: Store, model: StoredModel) -> dict[str, object]:
    """A stored model, as JSON has it.

    Raises:
        CorruptStoreError: Its manifest or config is missing or damaged.
        UnsupportedArtifactError: Another tool has put something else here.
    """
    artifact = model.artifact
    value = row_of(model).to_dict()
    value |= _artifact(artifact, model.config)
    value["blobs_good"] = all(store.blobs.state(blob) == "good" for blob in model.manifest.blobs)
    value["gguf"] = _or_problem(lambda: headers.of_stored(model))
    return value


def inspect_remote(source: Source, reference: Reference) -> dict[str, object]:
    """A model in a registry: its manifest and config, and the header by ranges.

    Raises:
        ManifestNotFoundError, AccessError, TransferError: The registry says no, or nothing.
        UnsupportedArtifactError: It is no model.
    """
    pinned = reference.with_digest(source.resolve(reference))
    manifest = source.manifest(pinned)
    artifact = ModelArtifact.from_manifest(manifest)
    config = artifact.config(_small_blob(source, pinned, artifact.manifest.config))
    value: dict[str, object] = {
        "id": str(artifact.manifest.digest),
        "references": [str(reference)],
        "source": source.name,
        "family": config.family,
        "format": config.format or "gguf",
        "architecture": config.architecture,
        "parameters": config.parameters,
        "quantization": config.quantization,
        "context_length": config.context_length,
        "size_bytes": artifact.manifest.total_bytes,
        "created": utc(config.created),
        "path": None,
    }
    value |= _artifact(artifact, config)
    value["gguf"] = _or_problem(lambda: headers.of_remote(source, pinned, artifact))
    return value


def _artifact(artifact: ModelArtifact, config: ModelConfig) -> dict[str, object]:
    manifest = artifact.manifest
    return {
        "manifest": {
            "media_type": manifest.media_type,
            "artifact_type": manifest.artifact_type,
            "digest": str(manifest.digest),
            "annotations": dict(manifest.annotations),
        },
        "config_digest": str(manifest.config.digest),
        "config_media_type": manifest.config.media_type,
        "layers": [
            {
                "digest": str(layer.descriptor.digest),
                "media_type": layer.descriptor.media_type,
                "size_bytes": layer.descriptor.size,
                "role": str(layer.role),
                "path": str(layer.path) if layer.path else None,
            }
            for layer in artifact.layers
        ],
        "config_gguf": dict(config.gguf),
    }


def _or_problem(read: Callable[[], Headers]) -> dict[str, object]:
    """The header's facts, or what is wrong with it: inspection does not end there."""
    try:
        found = read()
        metadata = found.metadata
    except IntegrityError as exc:
        return {"problem": exc.message}
    return {
        "architecture": metadata.architecture,
        "name": metadata.name,
        "parameters": metadata.parameters,
        "parameters_text": metadata.parameters_text,
        "quantization": metadata.quantization,
        "context_length": metadata.context_length,
        "embedding_length": metadata.embedding_length,
        "block_count": metadata.block_count,
        "license": metadata.license,
        "chat_template": metadata.chat_template is not None,
        "is_embedding": metadata.is_embedding,
        "tensor_bytes": metadata.tensor_bytes,
        "shards": len(found.shards),
    }


def _small_blob(source: Source, reference: Reference, descriptor: Descriptor) -> bytes:
    if descriptor.size > MAX_BYTES:
        raise SizeMismatchError(f"{reference.short}: the config has {descriptor.size} bytes")
    found = bytearray()
    with source.open_blob(reference, descriptor, 0) as stream:
        for chunk in stream.chunks:
            found += chunk
            if len(found) > descriptor.size:
                break
    if Digest.of(bytes(found)) != descriptor.digest:
        raise DigestMismatchError(
            f"{reference.short}: the config is not what the manifest promises",
            expected=str(descriptor.digest),
            got=str(Digest.of(bytes(found))),
        )
    return bytes(found)
