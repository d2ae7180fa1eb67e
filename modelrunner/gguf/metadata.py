"""What a model is, read from its GGUF header: architecture, size, quantization, context."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from modelrunner.errors import MalformedGGUFError
from modelrunner.frozen import frozen
from modelrunner.gguf.file_types import file_type_name
from modelrunner.gguf.header import Array, Header, TensorInfo, Value
from modelrunner.units import format_count

Kind = Literal["model", "projector", "adapter", "vocabulary", "imatrix", "header without tensors"]

Purpose = Literal["text", "embedding", "ranking"]

_KIND_BY_TYPE: dict[str, Kind] = {
    "adapter": "adapter",
    "imatrix": "imatrix",
    "mmproj": "projector",
    "projector": "projector",
}
_KIND_BY_ARCHITECTURE: dict[str, Kind] = {"clip": "projector", "controlvector": "adapter"}
_EMBEDDING_ARCHITECTURES = frozenset({"gemma-embedding", "t5encoder"})
_NO_POOLING = 0
_MAX_ITEMS_IN_STRING_VALUES = 50


class Metadata(NamedTuple):
    """What the header of a model says, over all of the model's files.

    Attributes:
        architecture: As llama.cpp knows it: `llama`, `gemma3`, `clip`.
        name: The maker's name for it.
        kind: What the file is for.
        parameters: Elements of all tensors in the headers that were given.
        size_label: The maker's own word for the number of parameters, such as `8x7B`.
        quantization: Such as `MOSTLY_Q4_K_M`; None if unknown.
        context_length: Tokens that it was trained for.
        embedding_length: Numbers per token between the layers.
        block_count: Layers.
        license: As the maker writes it, often an SPDX name.
        chat_template: The Jinja template that lays out a conversation.
        is_embedding: Whether it turns text into vectors rather than text into text.
        is_ranking: Whether it says how well a text answers a question, and nothing else.
        has_vision: Whether this projector understands images.
        has_audio: Whether this projector understands sound.
        tensor_bytes: Bytes of all tensors in the headers that were given.
        values: All key-values of the first header.
    """

    architecture: str | None
    name: str | None
    kind: Kind
    parameters: int
    size_label: str | None
    quantization: str | None
    context_length: int | None
    embedding_length: int | None
    block_count: int | None
    license: str | None
    chat_template: str | None
    is_embedding: bool
    is_ranking: bool
    has_vision: bool
    has_audio: bool
    tensor_bytes: int
    values: Mapping[str, Value]

    @classmethod
    def from_header(cls, header: Header, *, shards: Sequence[Header] = ()) -> "Metadata":
        """What a model is, from the header of its file, or of its first file and all others.

        Args:
            header: Of the only file, or of the one that the key-values are in: the first.
            shards: Of all *other* files of a split model. Without them, parameters and bytes
                are those of the first file alone.

        Raises:
            MalformedGGUFError: The shards are not the ones that belong to the first.
        """
        keys = _Keys(header.metadata)
        if shards:
            _check_shards([header, *shards])
        tensors = [tensor for part in (header, *shards) for tensor in part.tensors]
        return cls(
            architecture=keys.architecture,
            name=keys.text("general.name"),
            kind=_kind(keys, tensors),
            parameters=sum(tensor.elements for tensor in tensors),
            size_label=keys.text("general.size_label"),
            quantization=_quantization(keys, tensors),
            context_length=keys.count(keys.of_architecture("context_length")),
            embedding_length=keys.count(keys.of_architecture("embedding_length")),
            block_count=keys.count(keys.of_architecture("block_count")),
            license=keys.text("general.license"),
            chat_template=keys.text("tokenizer.chat_template"),
            is_embedding=_is_embedding(keys),
            is_ranking=keys.count(keys.of_architecture("pooling_type")) == _POOLING_RANK,
            has_vision=header.metadata.get("clip.has_vision_encoder") is True,
            has_audio=header.metadata.get("clip.has_audio_encoder") is True,
            tensor_bytes=sum(part.tensor_bytes for part in (header, *shards)),
            values=header.metadata,
        )

    @property
    def parameters_text(self) -> str:
        """The number of parameters for people: the maker's label where it says a number."""
        label = self.size_label
        if label and any(character.isdigit() for character in label):
            return label
        return format_count(self.parameters)

    @property
    def has_chat_template(self) -> bool:
        """Whether the header has a chat template, the usual one or one of several by name."""
        return any(
            key.startswith("tokenizer.chat_template") and isinstance(value, str) and bool(value)
            for key, value in self.values.items()
        )

    def of_architecture(self, key: str) -> Value | None:
        """The value of `<architecture>.<key>`, such as `attention.head_count`."""
        return self.values.get(f"{self.architecture or ''}.{key}")

    @property
    def draft_heads(self) -> int:
        """Layers that predict further tokens (MTP)."""
        count = self.of_architecture("nextn_predict_layers")
        return count if isinstance(count, int) and not isinstance(count, bool) else 0

    def string_values(self) -> dict[str, str]:
        """All values as text, as a Docker model's config has them; long arrays are left out."""
        texts = {key: _as_text(value) for key, value in self.values.items()}
        return {key: text for key, text in texts.items() if text is not None}


@frozen
class _Keys:
    """Typed looks at key-values: what has another type than it should is as good as absent."""

    values: Mapping[str, Value]

    @property
    def architecture(self) -> str | None:
        return self.text("general.architecture")

    def of_architecture(self, key: str) -> str:
        return f"{self.architecture or ''}.{key}"

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def count(self, key: str) -> int | None:
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        return value if value >= 0 else None


def purpose_of(values: Mapping[str, Value]) -> Purpose:
    """What a model is for, by the key-values of its header."""
    keys = _Keys(values)
    if keys.count(keys.of_architecture("pooling_type")) == _POOLING_RANK:
        return "ranking"
    return "embedding" if _is_embedding(keys) else "text"


def _kind(keys: _Keys, tensors: Sequence[TensorInfo]) -> Kind:
    by_type = _KIND_BY_TYPE.get(keys.text("general.type") or "")
    by_architecture = _KIND_BY_ARCHITECTURE.get(keys.architecture or "")
    if named := by_type or by_architecture:
        return named
    if keys.text("adapter.type"):
        return "adapter"
    is_whole = (keys.count("split.count") or 1) == 1
    if is_whole and not tensors:
        return "vocabulary" if "tokenizer.ggml.model" in keys.values else "header without tensors"
    return "model"


def _quantization(keys: _Keys, tensors: Iterable[TensorInfo]) -> str | None:
    """The recipe that is written down, else the type that most elements have."""
    number = keys.count("general.file_type")
    recipe = None if number is None else file_type_name(number)
    if recipe:
        return recipe
    elements: Counter[str] = Counter()
    for tensor in tensors:
        elements[tensor.type_name] += tensor.elements
    if not elements:
        return None
    (name, _), *others = elements.most_common()
    return "ALL_F32" if name == "F32" and not others else f"MOSTLY_{name}"


_POOLING_RANK = 4
"""LLAMA_POOLING_TYPE_RANK of llama.h."""


def _is_embedding(keys: _Keys) -> bool:
    architecture = keys.architecture or ""
    pooling = keys.count(keys.of_architecture("pooling_type"))
    return (
        bool(pooling)  # 0 is llama.cpp's "no pooling", which models that write text may state
        or "bert" in architecture
        or architecture in _EMBEDDING_ARCHITECTURES
    )


def _check_shards(shards: Sequence[Header]) -> None:
    keys = [_Keys(shard.metadata) for shard in shards]
    counts = {key.count("split.count") for key in keys}
    if counts != {len(shards)}:
        expected = ", ".join(str(count) for count in sorted(count or 1 for count in counts))
        raise MalformedGGUFError(f"expected {expected} split files, got {len(shards)}")
    numbers = sorted(key.count("split.no") or 0 for key in keys)
    if numbers != list(range(len(shards))):
        raise MalformedGGUFError(
            f"the split files must be numbered from 0 without gaps, got {numbers}"
        )
    told_tensors = keys[0].count("split.tensors.count")
    tensors = sum(len(shard.tensors) for shard in shards)
    if told_tensors is not None and told_tensors != tensors:
        raise MalformedGGUFError(
            f"the split files have {tensors} tensors, the first one lists {told_tensors}"
        )


def _as_text(value: Value) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:f}"
        case Array():
            return _items_as_text(value)
        case int() | str():
            return str(value)


def _items_as_text(array: Array) -> str | None:
    if array.items is None or array.length > _MAX_ITEMS_IN_STRING_VALUES:
        return None
    return ", ".join(_as_text(item) or "" for item in array.items)
