"""A manifest understood as a model: which layer is what, and under which name it is put.

Recognised are Docker's family (config v0.1 and v0.2, with and without layer annotations) and CNCF
ModelPack with raw layers. Weights have to be GGUF, in one layer or in shards. Whatever else has a
path is kept beside them; what has none is kept in the store and given no name. Nothing is unpacked
and nothing is executed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from modelrunner.errors import MalformedManifestError, UnsupportedArtifactError
from modelrunner.oci import media_types
from modelrunner.oci.config import Family, ModelConfig, family_of
from modelrunner.oci.layers import Layer, Role, layer_of
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest
from modelrunner.oci.naming import SHARD, name_layers
from modelrunner.oci.paths import annotated_path
from modelrunner.text import sanitize_line

__all__ = ["SHARD", "Layer", "ModelArtifact", "Role"]


@dataclass(frozen=True, slots=True)
class ModelArtifact:
    """A model that llama.cpp could run; `weights` are in the order of the shards."""

    manifest: Manifest
    family: Family
    layers: tuple[Layer, ...]

    @classmethod
    def from_manifest(cls, manifest: Manifest | Index) -> Self:
        """Understands a manifest, before any blob of it is asked for.

        Raises:
            UnsupportedArtifactError: It is something else; the message says what.
            MalformedManifestError: A path leaves its folder, two files have one name, a
                shard is missing, or the config is too large to be one.
        """
        if isinstance(manifest, Index):
            raise UnsupportedArtifactError(
                f"this is an index of {len(manifest.manifests)} manifests, not a model",
                hint="name the one you want by digest: REPOSITORY@sha256:HEX",
                manifests=[str(entry.digest) for entry in manifest.manifests[:20]],
            )
        family = family_of(manifest.config.media_type, manifest.artifact_type)
        if family is None:
            raise _unsupported(manifest)
        if manifest.config.size > MAX_BYTES:
            raise MalformedManifestError(
                f"the model's config has {manifest.config.size} bytes, more than {MAX_BYTES}"
            )
        found = [layer_of(entry) for entry in manifest.layers]
        if not any(layer.role is Role.WEIGHTS for layer in found):
            raise _no_weights(found)
        layers = name_layers(found)
        for role in (Role.PROJECTOR, Role.ADAPTER):
            _require_one(role, layers)
        return cls(manifest, family, layers)

    @property
    def weights(self) -> tuple[Layer, ...]:
        """The weights: one GGUF file, or its shards in order."""
        return self._with(Role.WEIGHTS)

    @property
    def projector(self) -> Layer | None:
        """The multimodal projector, if there is one."""
        return next(iter(self._with(Role.PROJECTOR)), None)

    @property
    def template(self) -> Layer | None:
        """The chat template that replaces the one in the GGUF, if there is one."""
        return next(iter(self._with(Role.TEMPLATE)), None)

    @property
    def adapter(self) -> Layer | None:
        """The adapter (LoRA) that is applied to the weights, if there is one."""
        return next(iter(self._with(Role.ADAPTER)), None)

    @property
    def licenses(self) -> tuple[Layer, ...]:
        """Licence texts."""
        return self._with(Role.LICENSE)

    def config(self, raw: bytes) -> ModelConfig:
        """The config blob, understood for this family.

        Raises:
            MalformedManifestError: It is not what its media type says.
            UnsupportedArtifactError: It says that the weights, which have no name, are no GGUF.
        """
        config = ModelConfig.from_bytes(raw, self.family)
        told = config.format or "gguf"
        if told.lower() != "gguf" and all(_is_untold(layer) for layer in self.weights):
            raise UnsupportedArtifactError(
                f"the weights are {told}, which llama.cpp does not read", format=told
            )
        return config

    def _with(self, role: Role) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.role is role)


def _require_one(role: Role, layers: Sequence[Layer]) -> None:
    """Refuse several projectors or adapters: no format says which one is meant."""
    names = {layer.descriptor.digest: str(layer.path) for layer in layers if layer.role is role}
    if len(names) > 1:
        listed = sorted(names.values())
        raise UnsupportedArtifactError(
            f"the artifact has {len(names)} {role}s, and nothing says which one to use:"
            f" {', '.join(listed[:5])}",
            hint=f"ask whoever published it for an artifact with one {role}",
            files=listed[:50],
        )


def _is_untold(layer: Layer) -> bool:
    """Whether neither media type nor name says that the weights are GGUF."""
    raw = layer.descriptor.media_type == media_types.MODELPACK_WEIGHT
    return raw and annotated_path(layer.descriptor.annotations) is None


def _no_weights(found: Sequence[Layer]) -> UnsupportedArtifactError:
    """Why a model without GGUF weights cannot be run, and what would run it."""
    error = next((error for layer in found if (error := _other_weights(layer)) is not None), None)
    if error is not None:
        return error
    if any(layer.role is Role.ADAPTER for layer in found):
        return UnsupportedArtifactError(
            "this is an adapter (LoRA), not a model of its own",
            hint="llama-server takes it beside its base model with --lora",
            format="adapter",
        )
    return UnsupportedArtifactError(
        "the artifact has no GGUF weights: there is nothing that llama.cpp could run",
        layers=[sanitize_line(layer.descriptor.media_type, 120) for layer in found[:20]],
    )


def _other_weights(layer: Layer) -> UnsupportedArtifactError | None:
    media_type = layer.descriptor.media_type
    suffix = layer.path.suffix.lower() if layer.path else ""
    if "safetensors" in media_type or suffix == ".safetensors":
        return UnsupportedArtifactError(
            "these weights are safetensors, which llama.cpp does not read",
            hint="vLLM or SGLang would run it; `modelrunner cards` names models in GGUF",
            format="safetensors",
        )
    if media_type == media_types.DOCKER_DDUF or suffix == ".dduf":
        return UnsupportedArtifactError(
            "this is a DDUF file, an image-generation model",
            hint="the diffusers library would run it",
            format="dduf",
        )
    if media_type.startswith(f"{media_types.MODELPACK_PREFIX}weight.v1.tar"):
        return UnsupportedArtifactError(
            f"the weights are packed in an archive ({sanitize_line(media_type, 120)})",
            hint="unpack it with modctl, then `modelrunner package FILE.gguf REF`;"
            " raw layers are what the specification recommends",
            format="tar",
        )
    if (
        media_type.startswith(f"{media_types.MODELPACK_PREFIX}weight.v1")
        and layer.role is Role.FILE
    ):
        kind = suffix or "unnamed"
        return UnsupportedArtifactError(
            f"the weights are {kind} files, which llama.cpp does not read",
            format=kind.lstrip("."),
        )
    return None


def _unsupported(manifest: Manifest) -> UnsupportedArtifactError:
    config = sanitize_line(manifest.config.media_type, 120)
    if manifest.config.media_type in (
        media_types.OCI_IMAGE_CONFIG,
        media_types.DOCKER_IMAGE_CONFIG,
    ):
        return UnsupportedArtifactError(
            "this is a container image, not a model",
            hint="`docker run` or `podman run` would run it",
            config_media_type=config,
        )
    if manifest.config.media_type == media_types.HELM_CONFIG:
        return UnsupportedArtifactError(
            "this is a Helm chart, not a model",
            hint="`helm install` would use it",
            config_media_type=config,
        )
    if manifest.config.media_type.startswith(
        (media_types.DOCKER_CONFIG_PREFIX, media_types.MODELPACK_CONFIG_PREFIX)
    ):
        return UnsupportedArtifactError(
            f"the model's config is of a newer kind than this program knows: {config}",
            hint="upgrade modelrunner: pip install --upgrade modelrunner",
            config_media_type=config,
        )
    kind = sanitize_line(manifest.artifact_type or "", 120)
    return UnsupportedArtifactError(
        f"this artifact is no model: its config is {config}{kind and f', its type {kind}'}",
        hint="models have a config of application/vnd.docker.ai.model.config.v0.1+json, v0.2 or"
        " application/vnd.cncf.model.config.v1+json",
        config_media_type=config,
    )
