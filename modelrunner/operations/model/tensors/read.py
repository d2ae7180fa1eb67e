"""What is known of a model in safetensors: by its `config.json`, and the headers of its files.

A remote header is read by ranges of the blob: some kilobytes of gigabytes, of the first few files.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

from modelrunner.disk.inside import open_content
from modelrunner.errors import HeaderTooLongError, MalformedSafetensorsError
from modelrunner.frozen import frozen
from modelrunner.memory.vllm import ServedShape
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.model.artifact import Layer, ModelArtifact
from modelrunner.oci.model.formats import SAFETENSORS
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.configs import raw_of_remote
from modelrunner.operations.model.headers import remote_ranges
from modelrunner.safetensors.config import MAX_BYTES, TransformersConfig
from modelrunner.safetensors.header import (
    Read,
    SafetensorsHeader,
    main_type,
    parameters_of,
    parse_header,
)
from modelrunner.store.store import StoredModel, missing

if TYPE_CHECKING:
    from modelrunner.registry.source import Source

REMOTE_FILES = 4
"""Files of a model in a registry whose headers are read; of more, parameters are not known."""

REMOTE_LIMIT = 4 * 1024 * 1024
"""Bytes of a header in a registry that are read at most."""

_CONFIG = "config.json"


@frozen
class Tensors:
    """A model in safetensors.

    Attributes:
        config: What its `config.json` says; None without one, and where it cannot be understood.
        headers: The headers of its files; none where they are too many to be read.
        weights: Bytes of its files.
        problem: What is wrong with the config or a header.
    """

    config: TransformersConfig | None
    headers: Sequence[SafetensorsHeader]
    weights: int
    problem: str | None = None

    @property
    def shape(self) -> ServedShape:
        """What its need of memory depends on."""
        return ServedShape(self.weights, self.config)

    @cached_property
    def parameters(self) -> int | None:
        """Its parameters; None where that is not known."""
        bits = self.config.bits if self.config else None
        return parameters_of(self.headers, bits) if self.headers else None

    @property
    def dtype(self) -> str | None:
        """The type that most of its weights are in."""
        return main_type(self.headers) or (self.config.dtype if self.config else None)

    @property
    def quantization(self) -> str | None:
        """How it is quantized, or else the type of its weights."""
        return (self.config.quantization if self.config else None) or self.dtype

    def to_dict(self) -> dict[str, object]:
        """The facts as JSON has them."""
        config = self.config or TransformersConfig()
        return {
            "architecture": config.architecture,
            "parameters": self.parameters,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "context_length": config.context,
            "layers": len(config.kinds) or None,
            "kv_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "tensors": sum(len(header.tensors) for header in self.headers) or None,
            "weights_bytes": self.weights,
            **({"problem": self.problem} if self.problem else {}),
        }


def is_tensors(artifact: ModelArtifact) -> bool:
    """Whether a model is in safetensors that can be read: not in an archive."""
    return artifact.format == SAFETENSORS and not any(each.archived for each in artifact.weights)


def of_stored(model: StoredModel) -> Tensors:
    """What is known of a stored model.

    Raises:
        CorruptStoreError: A blob is missing.
    """

    def ranges(descriptor: Descriptor) -> Read:
        path = model.blob(descriptor)
        if not path.is_file():
            raise missing(model, descriptor)

        def read(offset: int, length: int) -> bytes:
            with open_content(path) as file:
                file.seek(offset)
                return file.content(length)

        return read

    def whole(descriptor: Descriptor) -> bytes:
        return ranges(descriptor)(0, descriptor.size)

    return _read(model.artifact, whole, ranges, None)


def of_remote(source: "Source", reference: Reference, artifact: ModelArtifact) -> Tensors:
    """What is known of a model in a registry, by its digest.

    Raises:
        TransferError, AccessError: The registry does not deliver.
    """
    return _read(
        artifact,
        partial(raw_of_remote, source, reference),
        partial(remote_ranges, source, reference, limit=REMOTE_LIMIT),
        REMOTE_FILES,
    )


def of_parts(
    artifact: ModelArtifact,
    whole: Callable[[Descriptor], bytes],
    ranges: Callable[[Descriptor], Read],
) -> Tensors:
    """What is known of a model whose files are read in another way.

    Args:
        artifact: The model.
        whole: Returns the content of a small file.
        ranges: Returns what reads parts of a file.
    """
    return _read(artifact, whole, ranges, REMOTE_FILES)


def _read(
    artifact: ModelArtifact,
    whole: Callable[[Descriptor], bytes],
    ranges: Callable[[Descriptor], Read],
    most: int | None,
) -> Tensors:
    weights = artifact.weights
    total = sum(layer.descriptor.size for layer in weights)
    problem, config, found = None, None, []
    beside = _config_of(artifact)
    try:
        if beside is not None:
            config = TransformersConfig.parse(whole(beside.descriptor), str(beside.path))
        if most is None or len(weights) <= most:
            limits = {} if most is None else {"limit": REMOTE_LIMIT}
            found = [
                parse_header(
                    ranges(layer.descriptor),
                    layer.descriptor.size,
                    name=str(layer.path or layer.descriptor.digest.short),
                    **limits,
                )
                for layer in weights
            ]
    except (MalformedSafetensorsError, HeaderTooLongError) as exc:
        problem = exc.message
    return Tensors(config, found, total, problem)


def _config_of(artifact: ModelArtifact) -> Layer | None:
    """The layer of the config beside the weights, the outermost of several."""
    found = [
        layer
        for layer in artifact.files
        if layer.path is not None
        and layer.path.name == _CONFIG
        and layer.descriptor.size <= MAX_BYTES
        and not layer.archived
    ]
    return min(found, key=lambda layer: len(layer.path.parts if layer.path else ()), default=None)
