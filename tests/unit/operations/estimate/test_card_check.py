"""A card's row against the headers of the model that it is about."""

from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.cards.card import Variant
from modelrunner.memory.card_estimate import card_figures
from modelrunner.operations.estimate.card_check import differences
from modelrunner.operations.model import headers
from modelrunner.operations.model.headers import Headers
from tests.support.gguf import tiny_gguf

MIB = 1024 * 1024


@pytest.fixture
def found(tmp_path: Path) -> Headers:
    return headers.of_file(tiny_gguf(tmp_path / "tiny.gguf"))


@pytest.fixture
def row(found: Headers) -> Variant:
    """A row that says what the header says."""
    figures = card_figures(found.first)
    return Variant(
        parameters=found.metadata.parameters / 10**9,
        quantization="Q4_0",
        context_tokens=2000,
        vram_bytes=figures.vram_bytes,
        size_bytes=figures.size_bytes,
    )


def test_what_rounding_explains_is_no_difference(row: Variant, found: Headers) -> None:
    assert differences(row, found) == ()
    rounded = replace(row, quantization="mostly_q4_0", size_bytes=figures_of(row) + 5 * MIB)
    assert differences(rounded, found) == ()


def figures_of(row: Variant) -> int:
    return row.size_bytes or 0


@pytest.mark.parametrize(
    ("what", "wrong", "sentence"),
    [
        (
            "size",
            {"size_bytes": 64 * MIB},
            "size: 64.00 MiB in the card, 7.94 KiB in the tensors",
        ),
        (
            "parameters",
            {"parameters": 3.2},
            "parameters: 3.2B in the card, 13.5K in the tensors",
        ),
        (
            "context",
            {"context_tokens": 131072},
            "context: 131K in the card, 2K in the header",
        ),
        (
            "quantization",
            {"quantization": "Q8_0"},
            "quantization: Q8_0 in the card, Q4_0 in the header",
        ),
    ],
)
def test_what_differs_is_told_with_both_figures(
    row: Variant, found: Headers, what: str, wrong: dict[str, object], sentence: str
) -> None:
    (difference,) = differences(replace(row, **wrong), found)
    assert (difference.what, difference.sentence) == (what, sentence)
    assert list(difference.to_dict()) == ["what", "card", "header", "sentence"]


def test_vram_is_held_against_the_cards_own_formula(row: Variant, found: Headers) -> None:
    (difference,) = differences(replace(row, vram_bytes=1024 * MIB), found)
    assert (difference.what, difference.card) == ("vram", 1024 * MIB)
    assert difference.header == card_figures(found.first).vram_bytes
    assert difference.sentence.startswith("VRAM: 1.00 GiB in the card, ")


def test_what_a_card_does_not_say_does_not_differ(found: Headers) -> None:
    assert differences(Variant(), found) == ()


def test_a_row_in_decimal_units_is_read_so(row: Variant, found: Headers) -> None:
    decimal = replace(row, size_bytes=64 * MIB, size_bytes_decimal=row.size_bytes)
    assert differences(decimal, found) == ()


def test_the_last_name_of_a_quantization_counts(row: Variant, found: Headers) -> None:
    assert differences(replace(row, quantization="IQ2_XXS/Q4_0"), found) == ()
