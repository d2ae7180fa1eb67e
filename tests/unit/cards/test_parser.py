"""A whole card as a literal, and texts that are no card at all."""

import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrunner.cards.card import Card
from modelrunner.cards.parser import TEXT_LIMIT, parse_card, read_card

CARD = """
# Tiny Model
*GGUF version by Someone*

![logo](https://example.com/logo.svg)

## Description
A model **made up** for this test.

## Characteristics

| Attribute        | Details                            |
|----------------- |----------------------------------- |
| **Provider**     | Somebody                           |
| **Architecture** | llama                              |
| **Cutoff date**  | May 2024ⁱ                          |
| **Languages**    | English, Dutch (and more)          |
| **Tool calling** | ✅                                 |
| **License**      | [MIT](https://example.com/LICENSE) |

i: Estimated

## Available model variants

| Model variant | Parameters | Quantization | Context window | VRAM¹ | Size |
|---------------|------------|--------------|----------------|-------|------|
| `ai/tiny:1B`<br><br>`ai/tiny:latest` | 1B | MOSTLY_Q8_0 | 131K tokens | 2 GiB | 1 GB |

¹: VRAM estimated based on model characteristics.

> `latest` → `1B`

## Model shape

| Shape | 1B |
|---|---|
| Layers | 16 |
| KV heads | 8 |
| Attention layers | 3, 7 |
| Tied output | yes |
| Window | - |

## Benchmark performance

| Category | Metric | Tiny |
|---|---|---|
| General | MMLU | 25.1 |

## Links
- [Home](https://example.com/tiny)
- https://example.com/paper
"""


def test_a_card_becomes_its_facts():
    facts = parse_card(CARD, name="tiny").to_dict()
    sections = facts.pop("sections")
    assert sections[0] == {
        "level": 1,
        "title": "Tiny Model",
        "text": "*GGUF version by Someone*\n\n![logo](https://example.com/logo.svg)",
    }
    assert [section["title"] for section in sections[1:3]] == ["Description", "Characteristics"]
    assert facts == {
        "name": "tiny",
        "title": "Tiny Model",
        "description": "A model **made up** for this test.",
        "attributes": {
            "provider": "Somebody",
            "architecture": "llama",
            "cutoff_date": "May 2024",
            "languages": ["English", "Dutch"],
            "tool_calling": True,
            "input_modalities": None,
            "output_modalities": None,
            "license": "MIT",
            "license_url": "https://example.com/LICENSE",
            "extra": {},
        },
        "variants": [
            {
                "references": ["ai/tiny:1B", "ai/tiny:latest"],
                "parameters": 1.0,
                "parameters_text": "1B",
                "parameters_active": None,
                "quantization": "Q8_0",
                "context_tokens": 131072,
                "vram_bytes": 2147483648,
                "size_bytes": 1073741824,
                "size_bytes_decimal": None,
            }
        ],
        "latest": "ai/tiny:1B",
        "benchmarks": [{"category": "General", "metric": "MMLU", "value": "25.1"}],
        "links": ["https://example.com/tiny", "https://example.com/paper"],
        "footnotes": {
            "i": "Estimated",
            "¹": "VRAM estimated based on model characteristics.",
        },
        "shapes": {"1B": {"layers": 16, "kv_heads": 8, "attention_layers": [3, 7], "tied": True}},
        "warnings": [],
    }


def test_the_shape_of_a_variant_is_found_by_its_tag():
    card = parse_card(CARD)
    assert card.shape == card.shapes["1B"] == card.shape_of(card.variants[0])


def test_the_longer_size_label_claims_its_tags_first():
    card = parse_card(
        "## Available model variants\n|Model variant|Size|VRAM|\n|-|-|-|\n"
        "|`ai/x:30B-A3B-F16`|1 GB|1 GB|\n|`ai/x:30B-F16`|1 GB|1 GB|\n|`ai/x:3B`|1 GB|1 GB|\n"
        "## Model shape\n|Shape|30B|30B-A3B|\n|-|-|-|\n|Layers|1|2|\n"
    )
    shapes = [card.shape_of(variant) for variant in card.variants]
    assert shapes == [{"layers": 2}, {"layers": 1}, None]


def test_line_ends_of_every_kind_give_the_same_card():
    plain = parse_card(CARD).to_dict()
    assert parse_card(CARD.replace("\n", "\r\n")).to_dict() == plain
    assert parse_card("\ufeff" + CARD.replace("\n", "\r")).to_dict() == plain


def test_control_and_direction_characters_do_not_survive():
    card = parse_card(CARD.replace("Somebody", "\x1b[31mSome\u202ebody\x07\u2066"))
    assert card.attributes.provider == "Somebody"
    assert "\x1b" not in card.text
    assert card.warnings == ("control characters were removed",)


def test_an_endless_escape_sequence_takes_its_line_and_no_more():
    card = parse_card(CARD.replace("Somebody", "Some\x1b]0;body"))
    assert card.variants == parse_card(CARD).variants


def test_half_a_surrogate_pair_is_replaced_by_what_can_be_written():
    assert parse_card("# A\ud800B").title == "A?B"


def test_html_and_nested_tables_do_no_harm():
    card = parse_card(
        "<h1>T</h1><table><tr><td>| `a` |</td></tr></table>\n"
        "## Available model variants\n"
        "| Model variant | Size | VRAM |\n|---|---|---|\n"
        "| <table><tr><td>`ai/x:1B`</td></tr></table> | 1 GB | <b>2 GiB</b> |\n"
    )
    (variant,) = card.variants
    assert variant.references == ("ai/x:1B",)
    assert variant.vram_bytes is None
    assert "ai/x:1B: invalid vram `<b>2 GiB</b>`" in card.warnings


@pytest.mark.parametrize("text", ["", "\n", "|", "# ", "```", "<!--", "|-|-|"])
def test_next_to_nothing_is_a_card_without_facts(text):
    card = parse_card(text)
    assert (card.title, card.variants, card.latest, card.benchmarks) == (None, (), None, ())
    assert card.warnings == ("the card has no title",)


def test_a_file_of_random_bytes_is_a_card_too(tmp_path):
    path = tmp_path / "noise.md"
    path.write_bytes(random.Random(7).randbytes(200_000))
    card = read_card(path)
    assert card.variants == ()
    assert "the card is not valid UTF-8" in card.warnings


_PIECES = st.sampled_from(
    [
        *("# ", "## Available model variants\n", "## Characteristics\n", "## Benchmarks\n"),
        *("|", "|-|-|\n", "\n", "`", "```\n", "<br>", "<!--", "-->", "[", "](", ")", "\\", "¹"),
        *("| Model variant | Size | VRAM |\n|-|-|-|\n", "> `latest` → `x`\n", "## Model shape\n"),
        *("8B", "1,0", "~", "GB", "-", "ai/x:latest", "{", "}", "Languages", "\x1b[", "\u202e"),
    ]
)
_TEXTS = st.one_of(
    st.text(max_size=300), st.lists(st.one_of(_PIECES, st.text(max_size=5))).map("".join)
)


@settings(max_examples=3 * settings.default.max_examples)
@given(_TEXTS)
def test_no_text_raises_and_every_answer_is_json(text):
    card = parse_card(text, name="x")
    assert isinstance(card, Card)
    facts = json.loads(json.dumps(card.to_dict()))
    assert facts["title"] == card.title
    assert not set("\x1b\u202e\x00") & set(card.text)


HEAD = (
    "# x\n## Available model variants\n"
    "| Model variant | Parameters | Quantization | Context window | VRAM | Size |\n|-|-|-|-|-|-|\n"
)
HOSTILE = {
    "bars": "|" * 10_000_000,
    "line feeds": "\n" * 10_000_000,
    "brackets": "[" * 60_000 + "\n" + "[a](" * 15_000 + "\n" + "[a](b(" * 10_000,
    "headings": "# a\n" * 250_000,
    "long headings": ("# " + "a" * 390 + "\n") * 2_000 + "## b\n|a|\n" * 10_000,
    "fences": "```\n~~~\n" * 120_000,
    "comments": "<!--" * 250_000,
    "separators": "|-|-|\n" * 170_000,
    "rows": HEAD
    + "".join(f"| `ai/x:{n}` | 8B | F16 | 8K | 2 GB | 3 GB |\n" for n in range(25_000)),
    "wide rows": HEAD + ("|" + "1|" * 30_000 + "\n") * 16,
    "backticks": HEAD + ("|" + "`a" * 30_000 + "|8B|\n") * 16,
    "numbers": HEAD
    + "|`a:b`|"
    + "1,000" * 12_000
    + "|"
    + "9" * 60_000
    + "|~"
    + "1" * 60_000
    + "K|",
    "remarks": "## Characteristics\n|a|b|\n|-|-|\n|Languages|" + "(" * 30_000 + ")" * 30_000 + "|",
    "words": "## Characteristics\n|a|b|\n|-|-|\n|Languages|" + "like " * 12_000 + "|\n",
    "addresses": "## Links\n" + "http://a(" * 100_000,
    "references": HEAD + "|`" + "a/" * 30_000 + "!`|8B|Q4|\n|`" + "a:-Q4-" * 10_000 + "`|8B|Q4|\n",
    "breaks": HEAD + "|" + "<br" * 20_000 + "|\n|" + "<br   " * 10_000 + "|\n",
    "escapes": "\x1b]" * 500_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_text_takes_bounded_time(kind, monkeypatch):
    # a quarter of it shows what grows faster than the text does
    monkeypatch.setattr("modelrunner.cards.parser.TEXT_LIMIT", TEXT_LIMIT // 4)
    start = time.process_time()
    card = parse_card(HOSTILE[kind], name="x")
    assert time.process_time() - start < 4
    assert len(card.text) <= TEXT_LIMIT // 4


def test_what_is_beyond_the_limit_is_left_out_with_a_warning():
    card = parse_card("# A\n" + "x\n" * TEXT_LIMIT + "# B")
    assert len(card.text) == TEXT_LIMIT
    assert any("the rest is ignored" in warning for warning in card.warnings)
