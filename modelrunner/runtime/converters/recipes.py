"""The quantizations that llama.cpp makes, by the names of its `llama-quantize`.

recipe_named("q4_k")  ->  Recipe("Q4_K_M", 15)
"""

from collections.abc import Sequence
from typing import NamedTuple

from modelrunner.errors import UsageError
from modelrunner.gguf.file_types import FILE_TYPES
from modelrunner.gguf.header import Header
from modelrunner.gguf.tensor_types import TENSOR_TYPES
from modelrunner.text import sanitize_line, suggest

_GONE = frozenset({"Q4_1_SOME_F16", "Q4_2", "Q4_3", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "NVFP4"})
"""Known in files, and made no more, or by other programs."""

_NEEDS_MATRIX = frozenset(
    {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "Q2_K_S"}
)
"""What llama.cpp refuses to make without an importance matrix, `tensor_requires_imatrix`."""

_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "FP32": "F32"}
_PLAIN = frozenset({"F32", "F16", "BF16", "F64"})
_UPPER = {"Q2_K": "Q4_K", "Q3_K": "Q5_K", "Q4_K": "Q6_K", "Q5_K": "Q6_K"}
"""Types of the tensors that matter most in a file that is mostly of another type."""

_SHARE_OF_UPPER = 0.4
_MATRIX = 2


class Recipe(NamedTuple):
    """A quantization.

    Attributes:
        name: What llama.cpp calls it: `Q4_K_M`.
        number: Its number in `general.file_type`.
    """

    name: str
    number: int

    @property
    def tensor_type(self) -> str:
        """The type of most of its tensors: `Q4_K`."""
        name = self.name.removesuffix("_MOE")
        names = {each.name for each in TENSOR_TYPES.values()}
        while name not in names and "_" in name:
            name = name.rpartition("_")[0]
        return name if name in names else {"IQ3": "IQ3_S", "IQ2": "IQ2_S"}.get(name, "Q8_0")

    def bytes_of(self, shards: Sequence[Header]) -> int:
        """Return about how many bytes a model takes in it, for a look at the room that there is."""
        sizes = {each.name: each.size / each.block for each in TENSOR_TYPES.values()}
        main = sizes[self.tensor_type]
        upper = sizes[_UPPER.get(self.tensor_type, self.tensor_type)]
        weight = main * (1 - _SHARE_OF_UPPER) + upper * _SHARE_OF_UPPER
        total = 0.0
        for shard in shards:
            for tensor in shard.tensors:
                each = weight if len(tensor.shape) >= _MATRIX else sizes["F32"]
                total += each * tensor.elements
            total += shard.data_offset
        # bounded: a number of our own
        return int(total)


def recipes(*, matrix: bool = False) -> dict[str, Recipe]:
    """Return every quantization that can be made, by its name.

    Args:
        matrix: Whether there is an importance matrix.
    """
    found = {}
    for number, label in FILE_TYPES.items():
        name = label.removeprefix("MOSTLY_").removeprefix("ALL_")
        if name not in (_GONE if matrix else _GONE | _NEEDS_MATRIX):
            found[name] = Recipe(name, number)
    return found


def recipe_named(text: str, *, matrix: bool = False) -> Recipe:
    """Return the quantization that a text names, in any case.

    Args:
        text: The name.
        matrix: Whether there is an importance matrix.

    Raises:
        UsageError: There is no such one, or it cannot be made of a file alone.
    """
    wanted = text.upper().replace("-", "_").removeprefix("MOSTLY_")
    wanted = _ALIASES.get(wanted, wanted)
    known = recipes(matrix=matrix)
    if wanted in known:
        return known[wanted]
    shown = sanitize_line(text, 40)
    if wanted in _NEEDS_MATRIX:
        raise UsageError(
            f"--quantize {shown} needs an importance matrix",
            hint="add --imatrix FILE (llama.cpp's `llama-imatrix` makes one), or choose a larger"
            " one, such as Q2_K or IQ3_S",
        )
    raise UsageError(
        f"--quantize: unknown quantization {shown!r}",
        hint=suggest(wanted, [*known]) or f"use one of {', '.join(known)}",
    )


def quantized_types(shards: Sequence[Header]) -> tuple[str, ...]:
    """Return the types of the tensors of a model that are quantized already."""
    found = {
        tensor.type_name
        for shard in shards
        for tensor in shard.tensors
        if len(tensor.shape) >= _MATRIX
    }
    return tuple(sorted(found - _PLAIN))
