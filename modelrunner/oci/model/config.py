"""What an artifact's config says of its model, for every family.

Docker: `{config: {format, quantization, parameters, architecture, size, gguf, context_size},
descriptor: {created}, rootfs}`, and our own `config.settings`, which Docker Model Runner passes
over: settings of a launch by their names in JSON. ModelPack: `{descriptor: {createdAt, ...},
config: {architecture, format, paramSize, quantization, ...}, modelfs}`. Ollama: `{model_format,
model_family, model_type, file_type, ...}`. Plain files have no config, or any. Strings are claims
of the artifact's maker: shown, never calculated with.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

from modelrunner.frozen import field, frozen, replace
from modelrunner.oci import media_types
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import parse_json
from modelrunner.text import sanitize_line

Family = Literal["docker", "modelpack", "ollama", "kitops", "image", "files"]
FAMILIES: tuple[Family, ...] = get_args(Family)
EPOCH = "1970-01-01T00:00:00Z"
_FACTS = ("format", "architecture", "parameters", "quantization")
MAX_CONTEXT = 10**11


@frozen
class Said:
    """What layers say of how a model is run.

    Attributes:
        settings: Settings by their names in JSON: nothing is checked.
        context: The context, in tokens; None where none is set.
    """

    settings: Mapping[str, object]
    context: int | None


@frozen
class ModelConfig:
    """The facts of a config blob; None is unknown.

    Attributes:
        family: Whose config it is.
        format: The format of the weights.
        architecture: The model's architecture.
        parameters: Their number, as text.
        quantization: How the weights are quantized.
        context_length: `context_size`, or else the trained length among the copied GGUF values.
        created: When the artifact was made.
        gguf: Values copied from the GGUF header.
        context_size: The context that the packager sets; ModelPack has no such field.
        settings: What the packager advises for a launch, as it is written: nothing is checked.
    """

    family: Family
    format: str | None = None
    architecture: str | None = None
    parameters: str | None = None
    quantization: str | None = None
    context_length: int | None = None
    created: str | None = None
    gguf: Mapping[str, str] = field(default_factory=dict, hash=False)
    context_size: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict, hash=False)

    @property
    def has_shape(self) -> bool:
        """Whether the copied values say how many layers the model has."""
        return f"{self.gguf.get('general.architecture', '')}.block_count" in self.gguf

    @property
    def advised_context(self) -> int | None:
        """The context that the packager sets, where that says something.

        Many packagers copy the trained length into their configs.
        """
        return None if self.context_size == self.trained_length else self.context_size

    @property
    def trained_length(self) -> int | None:
        """The context that the model was trained for, among the copied values."""
        return _trained(self.gguf, self.architecture)

    def with_said(self, said: Said) -> Self:
        """The config with what layers say of how the model is run."""
        return replace(
            self,
            context_length=said.context or self.context_length,
            context_size=said.context or self.context_size,
            settings=said.settings,
        )

    @classmethod
    def from_bytes(cls, raw: bytes, family: Family) -> Self:
        """Reads a config blob.

        Raises:
            MalformedManifestError: It is not a JSON object, or too large.
        """
        value = parse_json(raw, "the model's config")
        if family == "ollama":
            return cls(
                family,
                format=_text(value, "model_format"),
                architecture=_text(value, "model_family"),
                parameters=_squeezed(_text(value, "model_type")),
                quantization=_text(value, "file_type"),
            )
        config, descriptor = _mapping(value, "config"), _mapping(value, "descriptor")
        if family == "image":
            labels = _mapping(config, "Labels")
            said = {fact: _text(labels, f"{media_types.MODEL_LABELS}{fact}") for fact in _FACTS}
            return cls(
                family,
                format=said["format"],
                architecture=said["architecture"],
                parameters=said["parameters"],
                quantization=said["quantization"],
                # images that are the same wherever they are made say this
                created=None if value.get("created") == EPOCH else _text(value, "created"),
            )
        if family == "kitops":
            # a Kitfile says nothing of what is shown
            return cls(family)
        gguf = {
            str(key): text
            for key, text in _mapping(config, "gguf").items()
            if isinstance(text, str)
        }
        architecture = _text(config, "architecture") or _text(gguf, "general.architecture")
        return cls(
            family,
            format=_text(config, "format"),
            architecture=architecture or _text(descriptor, "family"),
            parameters=_squeezed(_text(config, "parameters") or _text(config, "paramSize")),
            quantization=_text(config, "quantization") or _text(config, "precision"),
            context_length=_context_size(config) or _trained(gguf, architecture),
            created=_text(descriptor, "created") or _text(descriptor, "createdAt"),
            gguf=gguf,
            context_size=_context_size(config),
            settings=_mapping(config, "settings"),
        )

    def to_docker(self, diff_ids: Sequence[Digest], size: str) -> bytes:
        """The config blob as Docker's family has it; `size` is its text for people."""
        config: dict[str, Any] = {
            "format": self.format,
            "quantization": self.quantization,
            "parameters": self.parameters,
            "architecture": self.architecture,
            "size": size,
            "gguf": dict(self.gguf) or None,
            "context_size": self.context_length,
            "settings": dict(self.settings) or None,
        }
        value = {
            "config": _known(config),
            "descriptor": _known({"created": self.created}),
            "rootfs": {"type": "rootfs", "diff_ids": [str(entry) for entry in diff_ids]},
        }
        return json.dumps(value, separators=(",", ":")).encode()

    def to_modelpack(self, diff_ids: Sequence[Digest], name: str) -> bytes:
        """The config blob as the ModelPack family has it."""
        descriptor = {"createdAt": self.created, "family": self.architecture, "name": name}
        config = {
            "architecture": self.architecture,
            "format": self.format,
            "paramSize": self.parameters,
            "quantization": self.quantization,
        }
        value = {
            "descriptor": _known(descriptor),
            "modelfs": {"type": "layers", "diffIds": [str(entry) for entry in diff_ids]},
            "config": _known(config),
        }
        return json.dumps(value, separators=(",", ":")).encode()


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    entry = value.get(key)
    return entry if isinstance(entry, dict) else {}


def _text(value: Mapping[str, Any], key: str) -> str | None:
    entry = value.get(key)
    return (sanitize_line(entry) or None) if isinstance(entry, str) else None


def _squeezed(text: str | None) -> str | None:
    # older artifacts write "361.82 M", newer ones "361.82M"
    return text.replace(" ", "") if text else None


def _context_size(config: Mapping[str, Any]) -> int | None:
    size = config.get("context_size")
    sane = isinstance(size, int) and not isinstance(size, bool) and 0 < size <= MAX_CONTEXT
    return size if sane else None


def _trained(gguf: Mapping[str, str], architecture: str | None) -> int | None:
    text = gguf.get(f"{architecture}.context_length", "")
    sane = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_CONTEXT))
    # bounded: by its length
    return (int(text) or None) if sane else None


def _known(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry for key, entry in value.items() if entry is not None}
