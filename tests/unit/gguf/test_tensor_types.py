import gguf

from modelrunner.gguf.file_types import FILE_TYPES, file_type_name
from modelrunner.gguf.tensor_types import TENSOR_TYPES

# the Python package counts Q8_1's two scales as 32-bit numbers; in ggml itself they have 16
Q8_1 = 9


def test_tensor_sizes_are_those_of_the_reference_package():
    theirs = {
        int(kind): (kind.name, block, size)
        for kind, (block, size) in gguf.GGML_QUANT_SIZES.items()
        if kind != Q8_1
    }
    ours = {number: tuple(kind) for number, kind in TENSOR_TYPES.items()}
    assert {number: ours.get(number) for number in theirs} == theirs


def test_a_q8_1_block_is_what_ggml_compiles():
    assert TENSOR_TYPES[Q8_1].size == 2 * 2 + 32


def test_recipes_have_the_names_of_the_reference_package():
    theirs = {int(kind): kind.name for kind in gguf.LlamaFileType if kind.name != "GUESSED"}
    assert {number: FILE_TYPES.get(number) for number in theirs} == theirs


def test_a_guessed_recipe_is_named_like_a_stated_one():
    assert file_type_name(1024 | 15) == "MOSTLY_Q4_K_M"


def test_a_recipe_from_the_future_has_no_name():
    assert file_type_name(999) is None
