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
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest
from modelrunner.oci.model.config import Family, ModelConfig, family_of
from modelrunner.oci.model.layers import Layer, Role, layer_of
from modelrunner.oci.model.naming import SHARD, name_layers
from modelrunner.oci.model.paths import annotated_path
from modelrunner.oci.model.unsupported import no_weights, unknown_family

__all__ = ["SHARD", "Layer", "ModelArtifact", "Role"]


@dataclass(frozen=True, slots=True)
class ModelArtifact:
    """A model that llama.cpp could run; `weights` are in the order of the shards."""

    manifest: Manifest
    family: Family
    layers: tuple[Layer, ...]

    @classmethod
    def from_manifest(cls, manifest: Manifest | Index, name: str = "REF") -> Self:
        """Understands a manifest, before any blob of it is asked for.

        Args:
            manifest: It.
            name: The full reference that other tools can take, for hints.

        Raises:
            UnsupportedArtifactError: It is something else; the message says what.
            MalformedManifestError: A path leaves its directory, two files have one name, a
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
            raise unknown_family(manifest, _named_layers(manifest), name)
        if manifest.config.size > MAX_BYTES:
            raise MalformedManifestError(
                f"the model's config has {manifest.config.size} bytes, more than {MAX_BYTES}"
            )
        found = [layer_of(entry) for entry in manifest.layers]
        if not any(layer.role is Role.WEIGHTS for layer in found):
            raise no_weights(found, name)
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
            UnsupportedArtifactError: It says that the weights, which have no name, are not GGUF.
        """
        config = ModelConfig.from_bytes(raw, self.family)
        format_ = config.format or "gguf"
        if format_.lower() != "gguf" and all(_is_untold(layer) for layer in self.weights):
            raise UnsupportedArtifactError(
                f"the weights are {format_}, which llama.cpp does not read", format=format_
            )
        return config

    def _with(self, role: Role) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.role is role)


def _named_layers(manifest: Manifest) -> list[Layer]:
    """The layers of what is not a model; of one whose path is not to be trusted, no path."""
    found = []
    for entry in manifest.layers:
        try:
            found.append(layer_of(entry))
        except MalformedManifestError:
            found.append(Layer(entry, Role.UNKNOWN, None))
    return found


def _require_one(role: Role, layers: Sequence[Layer]) -> None:
    """Refuse several projectors or adapters: no format says which one is meant."""
    names = {layer.descriptor.digest: str(layer.path) for layer in layers if layer.role is role}
    if len(names) > 1:
        listed = sorted(names.values())
        raise UnsupportedArtifactError(
            f"ambiguous artifact: it has {len(names)} {role}s: {', '.join(listed[:5])}",
            hint=f"ask its publisher for an artifact with one {role}",
            files=listed[:50],
        )


def _is_untold(layer: Layer) -> bool:
    """Whether neither media type nor name says that the weights are GGUF."""
    raw = layer.descriptor.media_type == media_types.MODELPACK_WEIGHT
    return raw and annotated_path(layer.descriptor.annotations) is None
