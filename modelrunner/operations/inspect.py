"""Inspect: everything that is known about one model, here or in its registry."""

from collections.abc import Callable

from modelrunner.cards.card import Card, Variant
from modelrunner.errors import IntegrityError, UnsupportedArtifactError
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate.card_check import differences
from modelrunner.operations.estimate.estimate import variant_of
from modelrunner.operations.model import configs, headers
from modelrunner.operations.model.capabilities import (
    capabilities_of_headers,
    capabilities_of_one,
)
from modelrunner.operations.model.headers import Headers
from modelrunner.operations.model.recommended import recommended_by
from modelrunner.operations.model.resolve import artifact_at
from modelrunner.operations.model.rows import row_of, utc
from modelrunner.operations.model.suggestions import pin
from modelrunner.operations.model.tensors import read as tensors
from modelrunner.registry.source import Source
from modelrunner.runtime.packaged import Packaged
from modelrunner.runtime.sampling import Recommended, Sampling, of_header
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_count

_NO_ARTIFACT: dict[str, object] = {
    "id": None,
    "references": [],
    "family": None,
    "manifest": None,
    "config_digest": None,
    "config_media_type": None,
    "layers": [],
    "config_gguf": {},
    "packaged": {},
    "packaged_ignored": [],
    "referrers": [],
}
"""What a file has not."""


def inspect_stored(store: Store, model: StoredModel, card: Card | None = None) -> dict[str, object]:
    """A stored model, as JSON has it; where its card is known, with what that says differently.

    Raises:
        CorruptStoreError: Its manifest or config is missing or damaged.
        UnsupportedArtifactError: Another tool has put something else here.
    """
    artifact = model.artifact
    value = row_of(model).to_dict()
    value |= _artifact(artifact, model.config)
    if not model.is_stored:
        value |= _NO_ARTIFACT
    else:
        good = (store.blobs.state(blob) == "good" for blob in model.manifest.blobs)
        value["blobs_good"] = all(good)
        value["referrers"] = [referrer.facts() for referrer in model.referrers]
    names = [reference.short for reference in model.references]
    value |= _header(lambda: headers.of_stored(model), variant_of(card, names), model)
    if tensors.is_tensors(artifact):
        value["safetensors"] = tensors.of_stored(model).to_dict()
    return value


def inspect_remote(
    source: Source, reference: Reference, card: Card | None = None
) -> dict[str, object]:
    """A model in a registry: its manifest and config, the header by ranges, the card against it.

    Raises:
        ManifestNotFoundError, AccessError, TransferError: The registry says no, or nothing.
        UnsupportedArtifactError: It is not a model.
    """
    pinned = pin(source, reference)
    artifact = artifact_at(source, pinned)
    config = configs.of_remote(source, pinned, artifact)
    value: dict[str, object] = {
        "id": str(artifact.manifest.digest),
        "references": [str(reference)],
        "source": source.name,
        "family": config.family,
        "format": config.format or artifact.format,
        "architecture": config.architecture,
        "parameters": config.parameters,
        "quantization": config.quantization,
        "context_length": config.context_length,
        "size_bytes": artifact.manifest.total_bytes,
        "created": utc(config.created),
        "path": None,
    }
    value |= _artifact(artifact, config)
    variant = variant_of(card, [reference.short])
    advised = Packaged.read(config.settings).sampling
    header = _header(lambda: headers.of_remote(source, pinned, artifact), variant, advised=advised)
    if tensors.is_tensors(artifact):
        header["safetensors"] = tensors.of_remote(source, pinned, artifact).to_dict()
    return _filled_in(value | header)


def _filled_in(value: dict[str, object]) -> dict[str, object]:
    """The facts with what the headers say, where the config says nothing."""
    found = value["gguf"] or value.get("safetensors")
    if not isinstance(found, dict):
        return value
    parameters = found.get("parameters")
    if isinstance(parameters, int) and "parameters_text" not in found:
        found = {**found, "parameters_text": format_count(parameters)}
    keys = {key: key for key in ("architecture", "quantization", "context_length")}
    for key, name in {**keys, "parameters": "parameters_text"}.items():
        if value[key] is None:
            value[key] = found.get(name)
    return value


def _artifact(artifact: ModelArtifact, config: ModelConfig) -> dict[str, object]:
    manifest, packaged = artifact.manifest, Packaged.read(config.settings)
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
        "packaged": packaged.with_context(config.context_size).to_dict(),
        "packaged_ignored": list(packaged.ignored),
    }


def _header(
    read: Callable[[], Headers],
    row: Variant | None,
    model: StoredModel | None = None,
    *,
    advised: Sampling = Sampling(),  # noqa: B008 - it is frozen
) -> dict[str, object]:
    """The header's facts, or what is wrong with it: inspection does not end there.

    Args:
        read: Reads the headers.
        row: The model's row on its card.
        model: The model, where it is stored: files beside the weights say things, too.
        advised: The sampling in the config of one that is not.
    """
    try:
        found = read()
        value: dict[str, object] = {"gguf": _facts(found)}
        header = Recommended((("artifact", advised), ("header", of_header(found.metadata.values))))
        recommended = recommended_by(model, found.metadata) if model is not None else header
        value["sampling"] = recommended.to_dict()
        capable = capabilities_of_headers(found) if model is None else capabilities_of_one(model)
        value["capabilities"] = None if capable is None else capable.to_dict()
        if row is not None:
            value["card_differences"] = [entry.to_dict() for entry in differences(row, found)]
    except IntegrityError as exc:
        return {"gguf": {"problem": exc.message}}
    except UnsupportedArtifactError as exc:
        return {"gguf": None, "not_runnable": {"message": exc.message, "hint": exc.hint}}
    return value


def _facts(found: Headers) -> dict[str, object]:
    metadata = found.metadata
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
