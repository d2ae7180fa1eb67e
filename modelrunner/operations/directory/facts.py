"""What the files of a directory say of a model: its format, size, parameters and context.

Written as Docker Model Runner writes it (`pkg/distribution/format`), but for two things: parameters
are counted in all shards, not in the first alone, and `config.json` says the architecture where the
weights do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelrunner.disk.inside import open_content
from modelrunner.errors import MalformedManifestError
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import read_header
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import MAX_CONTEXT
from modelrunner.operations.directory.scan import FoundFile
from modelrunner.text import sanitize_line
from modelrunner.units import format_size
from modelrunner.wire import parse_json

_HEADER_LIMIT = 32 * 1024 * 1024
_CONFIG_LIMIT = 4 * 1024 * 1024
_LENGTH = 8
_CONTEXTS = (
    "max_position_embeddings",
    "n_ctx",
    "n_positions",
    "max_length",
    "max_sequence_length",
    "model_max_length",
)
"""Keys of `config.json` for the context, in the order of llama.cpp's converter."""

_COUNTS = ("", "K", "M", "B", "T")
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_STEP = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a model; None is unknown.

    Attributes:
        format: The format of the weights.
        quantization: The types of tensors, as text.
        parameters: Their number, as text.
        architecture: The model's architecture.
        size: The size of the weights, as text.
        context: The context that it was trained for.
        gguf: Values of the header of GGUF files.
        safetensors: Values of the header of safetensors files.
        diffusers: What is said of a DDUF file.
    """

    format: str
    quantization: str | None = None
    parameters: str | None = None
    architecture: str | None = None
    size: str | None = None
    context: int | None = None
    gguf: Mapping[str, str] = field(default_factory=dict)
    safetensors: Mapping[str, str] = field(default_factory=dict)
    diffusers: Mapping[str, str] = field(default_factory=dict)


def facts_of(artifact: ModelArtifact, files: Sequence[FoundFile]) -> Facts:
    """Return what files say of a model.

    Args:
        artifact: The model, as its manifest says.
        files: Its files.

    Raises:
        MalformedManifestError, MalformedGGUFError: Weights are not what their names say.
    """
    by_name = {str(file.name): file for file in files}
    parts = artifact.weights or tuple(
        layer for layer in artifact.layers if layer.format == artifact.format
    )
    weights = [by_name[str(layer.path)] for layer in parts if str(layer.path) in by_name]
    total = sum(file.size for file in weights)
    about = {name: _json_of(by_name.get(name)) for name in ("config.json", "model_index.json")}
    if artifact.format == "gguf":
        headers = [read_header(file.path) for file in weights]
        found = Metadata.from_header(headers[0], shards=headers[1:])
        return Facts(
            format="gguf",
            quantization=found.quantization,
            parameters=found.parameters_text,
            architecture=found.architecture,
            size=format_size(found.tensor_bytes).replace(" ", ""),
            context=found.context_length,
            gguf=found.string_values(),
        )
    if artifact.format == "dduf":
        said = {"layout": "dduf", "dduf_file": weights[0].name.name} if weights else {}
        return Facts(
            format="dduf", architecture="diffusers", size=_scaled(total, _SIZES), diffusers=said
        )
    architecture = _word(about["config.json"], "model_type")
    if architecture is None and about["model_index.json"]:
        architecture = "diffusers"
    if weights and all(file.name.suffix.lower() == ".safetensors" for file in weights):
        return _of_safetensors(artifact.format, weights, about["config.json"], architecture)
    return Facts(
        format=artifact.format,
        architecture=architecture,
        size=_scaled(total, _SIZES),
        context=_context(about["config.json"]),
    )


def _of_safetensors(
    format_: str, weights: Sequence[FoundFile], config: Mapping[str, object], usual: str | None
) -> Facts:
    parameters, types, tensors = 0, set(), 0
    said: dict[str, str] = {}
    for file in weights:
        header = safetensors_header(file.path, str(file.name))
        metadata = header.pop("__metadata__", None)
        if isinstance(metadata, dict):
            texts = {key: text for key, text in metadata.items() if isinstance(text, str)}
            # of what several shards say, the first counts
            said = {**texts, **said}
        for tensor in header.values():
            if not isinstance(tensor, dict):
                continue
            shape = tensor.get("shape")
            if isinstance(shape, list) and all(isinstance(each, int) for each in shape):
                tensors += 1
                parameters += _product(shape)
                types.add(str(tensor.get("dtype")))
    quantization = "unknown" if not types else "mixed"
    if len(types) == 1:
        quantization = sanitize_line(types.pop(), 40)
    values = {**said, "tensor_count": str(tensors)}
    return Facts(
        format=format_,
        quantization=quantization,
        parameters=_scaled(parameters, _COUNTS),
        architecture=sanitize_line(said["architecture"], 80) if "architecture" in said else usual,
        size=_scaled(sum(file.size for file in weights), _SIZES),
        context=_context(config),
        # in the order of Go's maps
        safetensors={key: values[key] for key in sorted(values)},
    )


def safetensors_header(path: Path, name: str) -> dict[str, object]:
    """Return the header of a safetensors file: a description of each tensor, by its name.

    Raises:
        MalformedManifestError: It is not one.
    """
    with open_content(path) as file:
        # bounded: eight bytes
        length = int.from_bytes(file.content(_LENGTH), "little")
        content = file.content(length) if 0 < length <= _HEADER_LIMIT else b""
    try:
        value = parse_json(content) if len(content) == length else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise MalformedManifestError(
            f"{name} is not a valid safetensors file",
            hint="download it again: a Git LFS pointer or half a file has such a name, too",
            path=name,
        )
    return value


def _json_of(file: FoundFile | None) -> Mapping[str, object]:
    if file is None or file.size > _CONFIG_LIMIT:
        return {}
    try:
        with open_content(file.path) as opened:
            value = parse_json(opened.content(_CONFIG_LIMIT))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _context(config: Mapping[str, object]) -> int | None:
    nested = config.get("text_config")
    places: list[Mapping[str, object]] = [config]
    if isinstance(nested, dict):
        places.append(nested)
    for place in places:
        for key in _CONTEXTS:
            found = place.get(key)
            if isinstance(found, int) and not isinstance(found, bool) and 0 < found <= MAX_CONTEXT:
                return found
    return None


def _word(config: Mapping[str, object], key: str) -> str | None:
    found = config.get(key)
    return (sanitize_line(found, 80) or None) if isinstance(found, str) else None


def _product(shape: Sequence[int]) -> int:
    total = 1
    for each in shape:
        total *= max(each, 0)
    return min(total, 1 << 60)


def _scaled(number: int, units: Sequence[str]) -> str | None:
    """A number as Go's `units.CustomSize` writes it: `134.52M`."""
    if number <= 0:
        return None
    value, at = number / 1, 0
    while value >= _STEP and at < len(units) - 1:
        value, at = value / _STEP, at + 1
    return f"{value:.2f}{units[at]}"


def docker_config(
    facts: Facts,
    context: int | None,
    settings: Mapping[str, object],
    created: str,
    diff_ids: Sequence[str],
) -> dict[str, object]:
    """Return the config of Docker's family, with keys in its order."""
    config = {
        "format": facts.format,
        "quantization": facts.quantization,
        "parameters": facts.parameters,
        "architecture": facts.architecture,
        "size": facts.size,
        "gguf": dict(facts.gguf),
        "safetensors": dict(facts.safetensors),
        "diffusers": dict(facts.diffusers),
        "context_size": context or facts.context,
        "settings": dict(settings),
    }
    return {
        "config": {key: value for key, value in config.items() if value},
        "descriptor": {"created": created},
        "rootfs": {"type": "rootfs", "diff_ids": list(diff_ids)},
    }
