"""A manifest understood as a model: which layer is what, and under which name it is put.

Every family of `families` is understood, and weights of every format. What llama.cpp can run has
weights in GGUF, in one layer or in shards; the rest is delivered all the same, and refused by
`require_runnable` alone. Whatever else has a path is kept beside the weights; what has none is
kept in the store and given no name. Nothing is unpacked and nothing is executed.
"""

from collections.abc import Callable, Sequence
from typing import Self

from modelrunner.errors import (
    MalformedManifestError,
    UnsupportedArtifactError,
)
from modelrunner.frozen import frozen
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest
from modelrunner.oci.model.config import Family, ModelConfig
from modelrunner.oci.model.families.known import family_of
from modelrunner.oci.model.formats import ADAPTER, FILES, GGUF, PROJECTOR
from modelrunner.oci.model.layers import Layer, Role, layer_of
from modelrunner.oci.model.naming import SHARD, firsts, name_layers
from modelrunner.oci.model.paths import annotated_path

# late imports: the other families, and what is said of artifacts that are no models

__all__ = ["SHARD", "Layer", "ModelArtifact", "Role"]

_DIRECTORIES = ("safetensors", "mlx", ADAPTER, FILES)
"""Formats of several files, which programs open by the name of their directory."""


@frozen
class ModelArtifact:
    """A model; `weights` are in the order of the shards.

    Attributes:
        manifest: What it was read from.
        family: Whose artifact it is.
        layers: Its layers, the weights first.
        format: The format of the weights, as far as the manifest says it: `gguf`, `safetensors`,
            ..., `adapter` or `projector` of an artifact without weights, or `files`.
    """

    manifest: Manifest
    family: Family
    layers: tuple[Layer, ...]
    format: str

    @classmethod
    def from_manifest(
        cls, manifest: Manifest | Index, name: str = "REF", *, image: bool = False
    ) -> Self:
        """Understands a manifest, before any blob of it is asked for.

        Args:
            manifest: It.
            name: The full reference that other tools can take, for hints.
            image: Whether an image is known to have a model in it, whatever its manifest says.

        Raises:
            UnsupportedArtifactError: It is not a model; the message says what it is.
            MalformedManifestError: A path leaves its directory, two files have one name, a
                shard is missing, or the config is too large to be one.
        """
        if isinstance(manifest, Index):
            raise UnsupportedArtifactError(
                f"this is an index of {len(manifest.manifests)} manifests, not a model",
                hint="name the one you want by digest: REPOSITORY@sha256:HEX",
                manifests=[str(entry.digest) for entry in manifest.manifests[:20]],
            )
        family = family_of(manifest, image=image)
        if family is None:
            from modelrunner.oci.model.unsupported import unknown_family

            raise unknown_family(manifest, _named_layers(manifest), name)
        if manifest.config.size > MAX_BYTES:
            raise MalformedManifestError(
                f"the model's config has {manifest.config.size} bytes, more than {MAX_BYTES}"
            )
        found = [family.layer_of(entry) for entry in manifest.layers]
        return cls._made(manifest, family.name, found, one_model=family.one_model)

    def with_files(self, files: Sequence[Descriptor]) -> Self:
        """The model with files in the place of the archives that they were in.

        Args:
            files: Named by their annotations.

        Raises:
            UnsupportedArtifactError: None of them is weights.
            MalformedManifestError: Two files have one name, or a shard is missing.
        """
        from modelrunner.oci.model.families.files import FILES_FAMILY

        found = [layer for layer in self.layers if not layer.archived]
        found += [FILES_FAMILY.layer_of(file) for file in files]
        return self._made(self.manifest, self.family, found, one_model=False)

    @classmethod
    def _made(
        cls, manifest: Manifest, family: Family, layers: list[Layer], *, one_model: bool
    ) -> Self:
        found = _promoted(layers)
        chosen = manifest.artifact_type == media_types.FILES_ARTIFACT
        if not chosen and not any(layer.role in _MODELS or layer.archived for layer in found):
            from modelrunner.oci.model.unsupported import no_weights

            raise no_weights(found)
        format_ = _format_of(found)
        named = name_layers(_with_weights_of(found, format_), several=not one_model)
        if one_model:
            for role in (Role.PROJECTOR, Role.ADAPTER):
                _require_one(role, named)
        return cls(manifest, family, named, format_)

    @property
    def is_archived(self) -> bool:
        """Whether files of the model are in archives."""
        return any(layer.archived for layer in self.layers)

    @property
    def weights(self) -> tuple[Layer, ...]:
        """The weights: one file, or shards in order; none of an adapter or a projector alone."""
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

    @property
    def files(self) -> tuple[Layer, ...]:
        """The layers that have a name."""
        return tuple(layer for layer in self.layers if layer.path is not None)

    @property
    def main(self) -> Layer | None:
        """The file that a program is given, the first shard of several; None for the directory."""
        parts = self.weights or self._with(Role.ADAPTER) or self._with(Role.PROJECTOR)
        opened = [layer for layer in parts if layer.path is not None and not layer.archived]
        if len(opened) != len(parts) or not opened:
            return None
        if all(layer.format == GGUF for layer in opened):
            return opened[0] if len(firsts(opened)) == 1 else None
        alone = len(opened) == 1 and (self.format not in _DIRECTORIES or len(self.files) == 1)
        return opened[0] if alone else None

    @property
    def is_runnable(self) -> bool:
        """Whether llama.cpp can run it, as far as the manifest says."""
        return self._obstacle("") is None

    def require_runnable(self, name: str = "REF") -> None:
        """Accept a model that llama.cpp can run, as far as the manifest says.

        Args:
            name: What people call it, for hints.

        Raises:
            UnsupportedArtifactError: It cannot; the message says what it is, the hint what runs it.
        """
        obstacle = self._obstacle(name)
        if obstacle is not None:
            raise obstacle

    def config(self, raw: bytes, read: Callable[[Descriptor], bytes] | None = None) -> ModelConfig:
        """The config blob, understood for this family.

        Args:
            raw: It.
            read: Returns the content of a small blob, for families whose settings are in layers;
                without it these have no settings.

        Raises:
            MalformedManifestError: It is not what its media type says.
            UnsupportedArtifactError: It says that the weights, which have no name, are not GGUF.
        """
        try:
            config = ModelConfig.from_bytes(raw, self.family)
        except MalformedManifestError:
            if self.family != "files":
                raise
            # the config of plain files may be anything
            config = ModelConfig(self.family)
        if self.family == "ollama" and read is not None:
            from modelrunner.oci.model.families.ollama import settings_of

            config = config.with_said(settings_of(self.layers, read))
        format_ = config.format or GGUF
        if format_.lower() != GGUF and self.weights and all(map(_is_untold, self.weights)):
            raise UnsupportedArtifactError(
                f"the weights are {format_}, which llama.cpp does not read", format=format_
            )
        return config

    def _obstacle(self, name: str) -> UnsupportedArtifactError | None:
        weights = self.weights
        if self.format != GGUF or any(layer.archived for layer in weights):
            from modelrunner.oci.model.unsupported import not_runnable

            return not_runnable(self.layers, self.format, name)
        choices = [str(layer.path) for layer in firsts(weights)]
        if len(choices) > 1:
            from modelrunner.oci.model.unsupported import several_models

            return several_models(choices, name)
        for role in (Role.PROJECTOR, Role.ADAPTER):
            try:
                _require_one(role, self.layers)
            except UnsupportedArtifactError as exc:
                return exc
        return None

    def _with(self, role: Role) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.role is role)


_MODELS = (Role.WEIGHTS, Role.ADAPTER, Role.PROJECTOR)


def _promoted(found: list[Layer]) -> list[Layer]:
    """The layers; where none is said to be weights, files count that have the name of such."""
    if any(layer.role in _MODELS for layer in found):
        return found
    return [
        layer._replace(role=Role.WEIGHTS)
        if layer.role is Role.FILE and layer.format is not None
        else layer
        for layer in found
    ]


def _format_of(found: Sequence[Layer]) -> str:
    """GGUF where there is some, else the format that most bytes are in."""
    weights = [layer for layer in found if layer.role is Role.WEIGHTS]
    if any(layer.format == GGUF for layer in weights):
        return GGUF
    sizes: dict[str, int] = {}
    for layer in weights:
        if layer.format is not None:
            sizes[layer.format] = sizes.get(layer.format, 0) + layer.descriptor.size
    models = [name for name in sizes if name != ADAPTER] or list(sizes)
    if models:
        return max(models, key=lambda name: sizes[name])
    if weights:
        return FILES
    for role, name in ((Role.ADAPTER, ADAPTER), (Role.PROJECTOR, PROJECTOR)):
        if any(layer.role is role for layer in found):
            return name
    return FILES


def _with_weights_of(found: Sequence[Layer], format_: str) -> list[Layer]:
    """The layers, of which only those of one format are the weights."""
    return [
        layer._replace(role=Role.FILE)
        if layer.role is Role.WEIGHTS and format_ not in (FILES, layer.format)
        else layer
        for layer in found
    ]


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
    raw = layer.descriptor.media_type in (media_types.MODELPACK_WEIGHT, media_types.CNAI_WEIGHT)
    return raw and annotated_path(layer.descriptor.annotations) is None
