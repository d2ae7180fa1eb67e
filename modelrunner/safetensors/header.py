"""The header of a safetensors file: which tensors it has, of which type, and where.

    8 bytes: the length of the header, little-endian | the header: JSON | the tensors' bytes

    {"model.norm.weight": {"dtype": "BF16", "shape": [2048], "data_offsets": [0, 4096]},
     "__metadata__": {"format": "pt"}}

The tensors follow one another without holes, to the end of the file. A header is hostile until it
is read: its length, its numbers and its offsets are checked, and no tensor is. Source: huggingface
safetensors `safetensors/src/tensor.rs`, README "Format".
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from modelrunner.errors import HeaderTooLongError, MalformedSafetensorsError
from modelrunner.units import format_size
from modelrunner.wire import LARGEST, parse_json

Read = Callable[[int, int], bytes]

MAX_HEADER = 100_000_000
"""Bytes that the format allows a header."""

_LENGTH = 8
_LIMIT = 32 * 1024 * 1024
_METADATA = "__metadata__"
_MOST_DIMENSIONS = 32
_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
_PACKED = ("I32", "U32")
"""Types whose elements hold several numbers of a quantized model."""

_BESIDE = (".qzeros", ".scales", ".biases", ".g_idx", ".weight_scale", ".weight_zero_point")
"""Tensors of a quantized model that are no parameters of its own."""


class Tensor(NamedTuple):
    """A tensor.

    Attributes:
        name: Its name.
        dtype: The type of its elements: `BF16`, `F32`, ...
        shape: Its dimensions.
        size: Its bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


class SafetensorsHeader(NamedTuple):
    """The header of one file.

    Attributes:
        tensors: The tensors, in the order of the file.
        metadata: Texts that its maker has added.
    """

    tensors: Sequence[Tensor]
    metadata: Mapping[str, str]


def parse_header(
    read: Read, size: int, *, limit: int = _LIMIT, name: str = "the file"
) -> SafetensorsHeader:
    """Read a header from anything that has ranges.

    Args:
        read: Returns bytes from an offset, at most as many as asked; fewer only at the end.
        size: Bytes of the file.
        limit: Bytes that are read at most.
        name: What the file is called in messages.

    Raises:
        HeaderTooLongError: The header is longer than the limit; nothing is known to be wrong.
        MalformedSafetensorsError: It is not safetensors, or cut off.
    """
    raw = read(0, _LENGTH)
    length = int.from_bytes(raw, "little")
    if len(raw) != _LENGTH or not 0 < length <= MAX_HEADER or length > size - _LENGTH:
        raise MalformedSafetensorsError(f"{name} is not a safetensors file, or is cut off")
    if length > limit:
        raise HeaderTooLongError(
            f"{name}: the header has {format_size(length)}, more than {format_size(limit)}"
        )
    text = read(_LENGTH, length)
    if len(text) != length or not text.startswith(b"{"):
        raise MalformedSafetensorsError(f"{name} is not a safetensors file, or is cut off")
    try:
        value = parse_json(text)
    except ValueError as exc:
        raise MalformedSafetensorsError(f"{name}: the header is not JSON") from exc
    if not isinstance(value, dict):
        raise MalformedSafetensorsError(f"{name}: the header is not a JSON object")
    metadata = value.pop(_METADATA, None)
    texts = metadata.items() if isinstance(metadata, dict) else ()
    placed = sorted((_tensor(key, entry, name) for key, entry in value.items()), key=_place)
    end = 0
    for start, stop, _ in placed:
        if start != end:
            raise MalformedSafetensorsError(f"{name}: tensors overlap, or leave a hole")
        end = stop
    if end != size - _LENGTH - length:
        raise MalformedSafetensorsError(
            f"{name}: expected {end} bytes of tensors, got {size - _LENGTH - length}"
        )
    found = tuple(tensor for _, _, tensor in placed)
    return SafetensorsHeader(
        found, {key: text for key, text in texts if isinstance(key, str) and isinstance(text, str)}
    )


def parameters_of(headers: Sequence[SafetensorsHeader], bits: int | None = None) -> int | None:
    """How many parameters the tensors of a model are.

    Args:
        headers: Those of all its files.
        bits: Bits of a parameter of a quantized model, several of which are in one element.

    Returns:
        None where elements hold several, and nothing says how many; and where there are none.
    """
    total = 0
    for tensor in (tensor for header in headers for tensor in header.tensors):
        if tensor.name.endswith(_BESIDE):
            continue
        packed = tensor.dtype in _PACKED and tensor.name.endswith(("weight", "weight_packed"))
        if packed and not bits:
            return None
        total += tensor.elements * (32 // bits if packed and bits else 1)
    return total or None


def main_type(headers: Sequence[SafetensorsHeader]) -> str | None:
    """The type that most bytes of a model are in; None without tensors."""
    sizes: dict[str, int] = {}
    for tensor in (tensor for header in headers for tensor in header.tensors):
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
    return max(sizes, key=lambda kind: sizes[kind], default=None)


def _tensor(key: str, entry: Any, name: str) -> tuple[int, int, Tensor]:  # noqa: ANN401 - JSON
    described = entry if isinstance(entry, dict) else {}
    dtype = described.get("dtype")
    shape, offsets = _counts(described.get("shape")), _counts(described.get("data_offsets"))
    if (
        not isinstance(dtype, str)
        or dtype not in _BITS
        or shape is None
        or len(shape) > _MOST_DIMENSIONS
        or offsets is None
        or len(offsets) != 2  # noqa: PLR2004 - where it starts, and where it ends
    ):
        raise MalformedSafetensorsError(f"{name}: invalid description of a tensor in the header")
    start, stop = offsets
    tensor = Tensor(key, dtype, shape, stop - start)
    if tensor.elements > LARGEST or -(-tensor.elements * _BITS[dtype] // 8) != stop - start:
        raise MalformedSafetensorsError(f"{name}: a tensor's size does not match its shape")
    return start, stop, tensor


def _counts(value: object) -> tuple[int, ...] | None:
    """The numbers of a list; None where it is another value."""
    found = value if isinstance(value, list) else [None]
    if not all(
        isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry <= LARGEST
        for entry in found
    ):
        return None
    return tuple(found)


def _place(entry: tuple[int, int, Tensor]) -> tuple[int, int]:
    return entry[0], entry[1]
