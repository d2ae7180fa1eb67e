"""A manifest understood as a model: which layer is what, and under which name it is put.

Recognised are Docker's family (config v0.1 and v0.2, with and without layer annotations) and CNCF
ModelPack with raw layers. Weights have to be GGUF, in one layer or in shards. Whatever else has a
path is kept beside them; what has none is kept in the store and given no name. Nothing is unpacked
and nothing is executed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Self

from modelrunner.errors import MalformedManifestError, UnsupportedArtifactError
from modelrunner.oci import media_types
from modelrunner.oci.config import Family, ModelConfig, family_of
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.paths import annotated_path
from modelrunner.text import sanitize_line

SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


class Role(StrEnum):
    """What a layer is for."""

    WEIGHTS = "weights"
    PROJECTOR = "projector"
    TEMPLATE = "template"
    LICENSE = "license"
    DOC = "doc"
    FILE = "file"
    ADAPTER = "adapter"
    UNKNOWN = "unknown"


_DOCKER_ROLES = {
    media_types.DOCKER_GGUF: Role.WEIGHTS,
    media_types.DOCKER_PROJECTOR: Role.PROJECTOR,
    media_types.DOCKER_PROJECTOR_SPEC: Role.PROJECTOR,
    media_types.DOCKER_ADAPTER_SPEC: Role.ADAPTER,
    media_types.DOCKER_TEMPLATE: Role.TEMPLATE,
    media_types.DOCKER_LICENSE: Role.LICENSE,
    media_types.DOCKER_FILE: Role.FILE,
    media_types.DOCKER_DIRECTORY: Role.FILE,
    media_types.DOCKER_VLLM_CONFIG: Role.FILE,
}
_DEFAULT_NAMES = {
    Role.PROJECTOR: "mmproj.gguf",
    Role.TEMPLATE: "template.jinja",
    Role.LICENSE: "LICENSE",
    Role.ADAPTER: "adapter.gguf",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a model; `path` is its place in the view, None where it has no name."""

    descriptor: Descriptor
    role: Role
    path: PurePosixPath | None


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
            MalformedManifestError: A path leaves its folder, two files have one name, or a
                shard is missing.
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
        found = [_layer(entry, family) for entry in manifest.layers]
        _refuse_other_weights(found, manifest)
        layers = _named(found)
        artifact = cls(manifest, family, layers)
        if not artifact.weights:
            raise UnsupportedArtifactError(
                "the artifact has no GGUF weights: there is nothing that llama.cpp could run",
                layers=[entry.media_type for entry in manifest.layers[:20]],
            )
        return artifact

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
    def licenses(self) -> tuple[Layer, ...]:
        """Licence texts."""
        return self._with(Role.LICENSE)

    def config(self, raw: bytes) -> ModelConfig:
        """The config blob, understood for this family.

        Raises:
            MalformedManifestError: It is not what its media type says.
        """
        return ModelConfig.from_bytes(raw, self.family)

    def _with(self, role: Role) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.role is role)


def _layer(descriptor: Descriptor, family: Family) -> Layer:
    path = annotated_path(descriptor.annotations)
    media_type = descriptor.media_type
    if media_type.startswith(media_types.MODELPACK_PREFIX):
        return Layer(descriptor, _modelpack_role(media_type, path), path)
    if family == "docker" or media_type in _DOCKER_ROLES:
        return Layer(descriptor, _DOCKER_ROLES.get(media_type, Role.UNKNOWN), path)
    return Layer(descriptor, Role.UNKNOWN, path)


def _modelpack_role(media_type: str, path: PurePosixPath | None) -> Role:
    name = path.name.lower() if path else ""
    kind = media_type.removeprefix(media_types.MODELPACK_PREFIX)
    if kind == "weight.v1.gguf" or (kind == "weight.v1.raw" and (not name or _is_gguf(name))):
        return Role.PROJECTOR if "mmproj" in name and _is_gguf(name) else Role.WEIGHTS
    if kind == "weight.config.v1.raw" and (name.endswith(".jinja") or "chat_template" in name):
        # tokenizer settings and the like are JSON; only a template is one
        return Role.FILE if name.endswith(".json") else Role.TEMPLATE
    if kind == "doc.v1.raw":
        words = ("license", "licence", "copying", "notice")
        return Role.LICENSE if any(word in name for word in words) else Role.DOC
    return Role.FILE if kind.endswith(".raw") else Role.UNKNOWN


def _is_gguf(name: str) -> bool:
    return name.endswith(".gguf")


def _refuse_other_weights(layers: Sequence[Layer], manifest: Manifest) -> None:
    """Refuses what holds weights, but not as GGUF files."""
    if any(layer.role is Role.WEIGHTS for layer in layers):
        return
    for layer in layers:
        media_type = layer.descriptor.media_type
        suffix = layer.path.suffix.lower() if layer.path else ""
        if "safetensors" in media_type or suffix == ".safetensors":
            raise UnsupportedArtifactError(
                "these weights are safetensors, which llama.cpp does not read",
                hint="vLLM or SGLang would run it; look for a GGUF variant: `modelrunner tags`"
                " lists what the repository has",
                format="safetensors",
            )
        if media_type == media_types.DOCKER_DDUF or suffix == ".dduf":
            raise UnsupportedArtifactError(
                "this is a DDUF file, an image-generation model",
                hint="the diffusers library would run it",
                format="dduf",
            )
        if media_type.startswith(f"{media_types.MODELPACK_PREFIX}weight.v1.tar"):
            raise UnsupportedArtifactError(
                f"the weights are packed in an archive ({media_type})",
                hint="unpack it with modctl, then `modelrunner package FILE.gguf REF`;"
                " raw layers are what the specification recommends",
                format="tar",
            )
        if media_type.startswith(media_types.MODELPACK_PREFIX + "weight.v1") and suffix:
            raise UnsupportedArtifactError(
                f"the weights are {suffix} files, which llama.cpp does not read",
                format=suffix.lstrip("."),
            )
    _refuse_config_format(manifest)


def _refuse_config_format(manifest: Manifest) -> None:
    if any(entry.media_type.endswith((".lora", ".adapter")) for entry in manifest.layers):
        raise UnsupportedArtifactError(
            "this is an adapter (LoRA), not a model of its own",
            hint="llama-server takes it beside its base model with --lora",
            format="adapter",
        )


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
    if manifest.config.media_type.startswith(media_types.DOCKER_CONFIG_PREFIX):
        return UnsupportedArtifactError(
            f"the model's config is of a newer kind than this program knows: {config}",
            hint="upgrade modelrunner: pip install --upgrade modelrunner",
            config_media_type=config,
        )
    return UnsupportedArtifactError(
        f"this artifact is no model: its config is {config}",
        hint="models have a config of application/vnd.docker.ai.model.config.v0.1+json, v0.2 or"
        " application/vnd.cncf.model.config.v1+json",
        config_media_type=config,
    )


def _named(found: Sequence[Layer]) -> tuple[Layer, ...]:
    """Weights in shard order and every known layer with a name of its own."""
    weights = _name_weights([layer for layer in found if layer.role is Role.WEIGHTS])
    named: list[Layer] = []
    taken: dict[PurePosixPath, Descriptor] = {}
    for layer in (*weights, *(entry for entry in found if entry.role is not Role.WEIGHTS)):
        placed = _place(layer, taken)
        if placed is not None:
            named.append(placed)
    _check_nesting(taken)
    return tuple(named)


def _place(layer: Layer, taken: dict[PurePosixPath, Descriptor]) -> Layer | None:
    """The layer with its final path; None where the same file is there already."""
    path = layer.path
    if path is None and layer.role in _DEFAULT_NAMES:
        path = _free(PurePosixPath(_DEFAULT_NAMES[layer.role]), taken)
    if path is None:
        return layer
    there = taken.setdefault(path, layer.descriptor)
    if there.digest != layer.descriptor.digest:
        raise MalformedManifestError(
            f"two layers want to be the file {str(path)!r}", path=str(path)
        )
    return None if there is not layer.descriptor else Layer(layer.descriptor, layer.role, path)


def _free(path: PurePosixPath, taken: dict[PurePosixPath, Descriptor]) -> PurePosixPath:
    number, candidate = 1, path
    while candidate in taken:
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def _check_nesting(taken: dict[PurePosixPath, Descriptor]) -> None:
    for path in taken:
        for parent in path.parents:
            if parent in taken:
                raise MalformedManifestError(
                    f"{str(parent)!r} is a file and a folder at once", path=str(parent)
                )


def _name_weights(weights: list[Layer]) -> list[Layer]:
    """Shards in order, under names that llama.cpp finds them by."""
    unique = list({layer.descriptor.digest: layer for layer in weights}.values())
    matches = [SHARD.fullmatch(layer.path.name) if layer.path else None for layer in unique]
    numbered = [
        (int(match["number"]), int(match["count"]), layer)
        for match, layer in zip(matches, unique, strict=True)
        if match is not None
    ]
    if len(numbered) == len(unique) and numbered:
        return _ordered_shards(numbered)
    if len(unique) == 1:
        layer = unique[0]
        path = layer.path or PurePosixPath("model.gguf")
        # llama.cpp is handed a path; people and scripts look for the ending
        path = path if _is_gguf(path.name.lower()) else path.with_name(f"{path.name}.gguf")
        return [Layer(layer.descriptor, layer.role, path)]
    count = len(unique)
    return [
        Layer(
            layer.descriptor,
            layer.role,
            PurePosixPath(f"model-{number:05d}-of-{count:05d}.gguf"),
        )
        for number, layer in enumerate(unique, start=1)
    ]


def _ordered_shards(numbered: list[tuple[int, int, Layer]]) -> list[Layer]:
    count = numbered[0][1]
    if {entry[1] for entry in numbered} != {count} or sorted(
        entry[0] for entry in numbered
    ) != list(range(1, count + 1)):
        raise MalformedManifestError(
            f"the model has {len(numbered)} shards, but not all of one set of {count}",
            shards=[str(entry[2].path) for entry in numbered][:50],
        )
    return [entry[2] for entry in sorted(numbered, key=lambda entry: entry[0])]
