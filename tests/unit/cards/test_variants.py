"""The variants table in its six-column, two-column and historical forms."""

import pytest

from modelrunner.cards.parser import parse_card

HEAD = (
    "# X\n\n## Available model variants\n\n"
    "| Model variant | Parameters | Quantization | Context window | VRAM¹ | Size |\n"
    "|---|---|---|---|---|---|\n"
)
GIB = 1024**3


def card_of(*rows, note=""):
    return parse_card(HEAD + "\n".join(rows) + f"\n\n{note}\n", name="x")


def test_rows_that_share_a_reference_and_all_figures_are_one_variant():
    card = card_of(
        "| `ai/x:latest`<br><br>`ai/x:8B-Q4_0` | 8B | Q4_0 | 131K tokens | 5 GiB | 4 GB |",
        "| `ai/x:8B-F16` | 8B | F16 | 131K tokens | 16 GiB | 15 GB |",
        "| `ai/x:8B-Q4_0` | 8B | Q4_0 | 131K tokens | 5 GiB | 4 GB |",
    )
    assert [variant.references for variant in card.variants] == [
        ("ai/x:latest", "ai/x:8B-Q4_0"),
        ("ai/x:8B-F16",),
    ]
    assert card.latest == "ai/x:8B-Q4_0"
    assert card.warnings == ()


def test_rows_that_share_a_reference_and_differ_stay_two_with_a_warning():
    card = card_of(
        "| `ai/x:8B` | 8B | Q4_0 | 131K tokens | 5 GiB | 4 GB |",
        "| `ai/x:8B` | 8B | Q4_0 | 131K tokens | 6 GiB | 4 GB |",
    )
    assert len(card.variants) == 2
    assert card.warnings == ("ai/x:8B: two rows with different values",)


def test_columns_are_found_by_name_and_not_by_place():
    card = parse_card(
        "## 🤖 Available Model Variants (GGUF)\n"
        "| Size | VRAM | Context Length | *Quantisation* | Model Variant |\n|-|-|-|-|-|\n"
        "| 1 GB | 2 GiB | 8K | F16 | ai/x:1B |\n"
    )
    (variant,) = card.variants
    assert variant.references == ("ai/x:1B",)
    assert (variant.size_bytes, variant.vram_bytes) == (GIB, 2 * GIB)
    assert (variant.context_tokens, variant.quantization) == (8192, "F16")
    assert variant.parameters is None


def test_a_listing_of_files_has_decimal_sizes_and_no_references():
    card = parse_card(
        "## Available model variants (GGUF)\n| Quantization | Size |\n|---|---|\n"
        "| Q4_K_M (4-bit) | 48.4 GB |\n"
    )
    (variant,) = card.variants
    assert variant.references == ()
    assert variant.quantization == "Q4_K_M"
    assert variant.size_bytes == 48_400_000_000


def test_rows_without_context_and_vram_have_a_decimal_reading_too():
    card = card_of("| `ai/x:1B` | 1B | F16 | - | - | 2 GB |")
    (variant,) = card.variants
    assert variant.size_bytes == 2 * GIB
    assert variant.size_bytes_decimal == 2_000_000_000
    assert card.warnings == ("ai/x:1B: the size is probably in GB (powers of 1000)",)


def test_template_rows_and_empty_rows_are_no_variants():
    card = card_of(
        "| `ai/{model_name}:{tag}` | {p} | {q} | - | - | {size}GB |", "| | | | | | |", "|"
    )
    assert card.variants == ()


def test_a_row_with_missing_cells_keeps_what_it_has():
    card = card_of("| `ai/x:8B` | 8B |")
    (variant,) = card.variants
    assert (variant.references, variant.parameters) == (("ai/x:8B",), 8.0)
    assert (variant.quantization, variant.vram_bytes, variant.size_bytes) == (None, None, None)


ROW_A = "| `ai/x:3B`<br>`ai/x:3B-Q4_0`<br>`ai/x:latest` | 3B | Q4_0 | 8K | 3 GiB | 2 GB |"
ROW_B = "| `ai/x:1B-F16` | 1B | F16 | 8K | 3 GiB | 2 GB |"


def test_latest_is_what_the_note_names_in_the_row_that_holds_the_tag():
    assert card_of(ROW_A, ROW_B, note="> `latest` → `3B-Q4_0`").latest == "ai/x:3B-Q4_0"


@pytest.mark.parametrize(
    "note",
    ["> `:latest` → `3B-Q4_0`", "`latest`→`ai/x:3B-Q4_0`", "> **latest** => `:3B-Q4_0`"],
)
def test_the_note_is_understood_in_every_spelling(note):
    assert card_of(ROW_A, ROW_B, note=note).latest == "ai/x:3B-Q4_0"


def test_the_row_wins_over_a_note_that_names_another():
    card = card_of(ROW_A, ROW_B, note="> `latest` → `1B-F16`")
    assert card.latest == "ai/x:3B"
    assert any(warning.startswith("latest is 1B-F16 in the note") for warning in card.warnings)


def test_without_a_row_the_note_says_what_latest_is():
    assert card_of(ROW_B, note="> `latest` → `1B-F16`").latest == "ai/x:1B-F16"
    assert card_of(ROW_B, note="> `latest` → `7B`").latest == "ai/x:7B"
    assert card_of(ROW_B, note="> `latest` -> `ai/x:1B-F16`").latest == "ai/x:1B-F16"


def test_without_row_and_note_nobody_knows_latest():
    assert card_of(ROW_B).latest is None


def test_a_table_under_another_heading_is_found_by_its_columns():
    text = HEAD.replace("## Available model variants", "## Downloads") + ROW_B
    assert [v.references for v in parse_card(text).variants] == [("ai/x:1B-F16",)]


def test_a_variant_is_found_by_reference_tag_and_through_latest():
    card = card_of(ROW_A, ROW_B)
    assert card.variant("ai/x:1B-F16") is card.variants[1]
    assert card.variant("3B") is card.variants[0]
    assert card.variant("latest") is card.variants[0]
    assert card.variant("70B") is None
