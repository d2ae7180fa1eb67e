"""Names of quantizations, and the room that they take."""

from pathlib import Path

import pytest

from modelrunner.errors import UsageError
from modelrunner.gguf.reader import read_header
from modelrunner.runtime.converters.recipes import (
    Recipe,
    quantized_types,
    recipe_named,
    recipes,
)
from tests.support.gguf import tiny_gguf


@pytest.mark.parametrize(
    ("text", "recipe", "tensor_type"),
    [
        ("Q4_K_M", Recipe("Q4_K_M", 15), "Q4_K"),
        ("q4_k", Recipe("Q4_K_M", 15), "Q4_K"),
        ("q8-0", Recipe("Q8_0", 7), "Q8_0"),
        ("MOSTLY_F16", Recipe("F16", 1), "F16"),
        ("f32", Recipe("F32", 0), "F32"),
        ("IQ3_M", Recipe("IQ3_M", 27), "IQ3_S"),
        ("MXFP4_MOE", Recipe("MXFP4_MOE", 38), "MXFP4"),
    ],
)
def test_a_quantization_is_named_in_any_case(text: str, recipe: Recipe, tensor_type: str) -> None:
    found = recipe_named(text)
    assert (found, found.tensor_type) == (recipe, tensor_type)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("Q4_K_X", "--quantize: unknown quantization 'Q4_K_X'", "did you mean"),
        ("\x1b[2J", "--quantize: unknown quantization", "use one of F32, F16, Q4_0"),
        ("iq2_xxs", "--quantize iq2_xxs needs an importance matrix", "Q2_K or IQ3_S"),
        ("Q4_0_4_4", "--quantize: unknown quantization 'Q4_0_4_4'", ""),
    ],
)
def test_what_cannot_be_made_is_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_named(text)
    assert message in caught.value.message
    assert "\x1b" not in caught.value.message
    assert hint in (caught.value.hint or "")


def test_every_recipe_has_a_size(tmp_path: Path) -> None:
    header = read_header(tiny_gguf(tmp_path / "tiny.gguf"))
    sizes = {name: recipe.bytes_of([header]) for name, recipe in recipes(matrix=True).items()}
    assert sizes["IQ1_S"] < sizes["IQ2_XXS"] < sizes["Q2_K"]
    assert sizes["Q2_K"] < sizes["Q4_K_M"] < sizes["Q8_0"] < sizes["F16"] < sizes["F32"]
    assert sizes["F32"] >= header.tensor_bytes
    assert all(sizes.values())


def test_weights_that_are_quantized_already_are_seen(tmp_path: Path) -> None:
    header = read_header(tiny_gguf(tmp_path / "plain.gguf"))
    plain = header._replace(tensors=tuple(each._replace(type=0) for each in header.tensors))
    assert quantized_types([plain]) == ()
    (first, *rest) = plain.tensors
    changed = plain._replace(tensors=(first._replace(type=12, shape=(256, 2)), *rest))
    assert quantized_types([changed]) == ("Q4_K",)
