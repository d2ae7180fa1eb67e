"""What stands before the tensor data of a GGUF file, as values."""

from collections.abc import Mapping
from itertools import pairwise
from math import prod
from typing import NamedTuple

from modelrunner.gguf.tensor_types import TENSOR_TYPES


class Array(NamedTuple):
    """An array among the values.

    Attributes:
        item_type: `uint32`, `float32`, `bool`, `string`, ...
        length: How many items the file has.
        items: The items, where there are few enough: a value per layer is, a vocabulary is not.
    """

    item_type: str
    length: int
    items: tuple[bool | int | float | str, ...] | None


Value = bool | int | float | str | Array


class TensorInfo(NamedTuple):
    """What the header says about one tensor.

    Attributes:
        name: Its name, such as `blk.0.attn_q.weight`.
        shape: Its dimensions, the fastest first.
        type: Its ggml type, by number.
        offset: Where its bytes start, counted from the start of the tensor data.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def type_name(self) -> str:
        """Its type as people write it: `Q4_K`, `F32`, or `unknown(99)`."""
        known = TENSOR_TYPES.get(self.type)
        return known.name if known else f"unknown({self.type})"

    @property
    def size(self) -> int | None:
        """How many bytes it takes; None for a type that is not known here."""
        known = TENSOR_TYPES.get(self.type)
        return self.elements // known.block * known.size if known else None


class Header(NamedTuple):
    """Everything before the tensor data.

    Attributes:
        version: Of the format, 2 or 3.
        metadata: The key-values, in the order of the file.
        tensors: The tensors, in the order of the file.
        alignment: What every tensor's offset is a multiple of.
        data_offset: Where in the file the tensor data starts.
        file_size: Bytes of the whole file, if that was known.
    """

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    file_size: int | None

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors without padding, as model cards print "Size".

        Tensors of a type that is not known here count what `sizes` says.
        """
        unknown = self.sizes if any(tensor.size is None for tensor in self.tensors) else {}
        return sum(
            unknown.get(tensor.name, 0) if tensor.size is None else tensor.size
            for tensor in self.tensors
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each tensor with its padding, by name.

        A tensor of a type that is not known here reaches to the next tensor, or to the end of the
        file; where that is unknown too, it is missing.
        """
        sizes = {
            tensor.name: padded(size, self.alignment)
            for tensor in self.tensors
            if (size := tensor.size) is not None
        }
        if len(sizes) == len(self.tensors):
            return sizes
        starts = sorted({tensor.offset for tensor in self.tensors})
        if self.file_size is not None:
            starts.append(max(self.file_size - self.data_offset, starts[-1]))
        ends = dict(pairwise(starts))
        for tensor in self.tensors:
            if tensor.size is None and tensor.offset in ends:
                sizes[tensor.name] = ends[tensor.offset] - tensor.offset
        return sizes


def padded(size: int, alignment: int) -> int:
    """The next multiple of the alignment."""
    return (size + alignment - 1) // alignment * alignment
