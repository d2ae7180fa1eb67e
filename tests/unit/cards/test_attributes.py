"""The characteristics, in the words of different authors."""

import pytest

from modelrunner.cards.attributes import parse_languages, parse_modalities, parse_tool_calling
from modelrunner.cards.parser import parse_card


@pytest.mark.parametrize(
    ("cell", "languages"),
    [
        ("English, Chinese", ("English", "Chinese")),
        ("English, Hindi and Thai", ("English", "Hindi", "Thai")),
        ("English, Dutch (extensible via finetuning)", ("English", "Dutch")),
        ("Multilingual: English, German", ("English", "German")),
        ("Supports dozens of languages, including English, French.", ("English", "French")),
        ("119 languages (Indo European, Turkic) with others like Basque,...", ("Basque",)),
        ("29+ (English, Chinese, Arabic)", ("English", "Chinese", "Arabic")),
        ("Primarily English", ("English",)),
        ("Primary: English; also: French, Dutch", ("English", "French", "Dutch")),
        ("English, German and twenty others like Basque", ("English", "German", "Basque")),
        ("English-only", ("English",)),
        ("English, French, etc.", ("English", "French")),
        ("English and over 140 languages", ("English",)),
        ("Brazilian Portuguese, English", ("Brazilian Portuguese", "English")),
        ("140+", ()),
        ("Multilingual", ()),
        ("Multilingual; over 100 spoken and programming languages", ()),
        ("-", None),
        ("", None),
        (None, None),
    ],
)
def test_languages_are_those_that_the_cell_names(cell, languages):
    assert parse_languages(cell) == languages


@pytest.mark.parametrize(
    ("cell", "answer"),
    [
        ("✅", True),
        ("Yes", True),
        ("❌", False),
        ("No", False),
        ("No (not for tool-calling; it's an embedding model)", False),
        ("Notable", None),
        ("-", None),
        (None, None),
    ],
)
def test_tool_calling_is_a_mark_or_a_word(cell, answer):
    assert parse_tool_calling(cell) is answer


@pytest.mark.parametrize(
    ("cell", "modalities"),
    [
        ("Text, Images", ("Text", "Images")),
        ("Text and image", ("Text", "image")),
        ("Text, image, and video", ("Text", "image", "video")),
        ("Text (up to 512 tokens (or so) per input)", ("Text",)),
        ("Text (code + natural language)", ("Text",)),
        ("-", None),
    ],
)
def test_modalities_are_named_without_remarks(cell, modalities):
    assert parse_modalities(cell) == modalities


def test_links_and_footnote_marks_are_taken_off_a_value():
    card = parse_card(
        "## 📌 Characteristics\n"
        "| Attribute | Value |\n|---|---|\n"
        "| **License** | [Gemma Terms](https://example.com/a_(b)) |\n"
        "| **Cutoff Date** | May 2024ⁱ |\n"
        "| **Provider** | - |\n"
        "| **Context length** | 262,144 tokens |\n"
    )
    assert card.attributes.license == "Gemma Terms"
    assert card.attributes.license_url == "https://example.com/a_(b)"
    assert card.attributes.cutoff_date == "May 2024"
    assert card.attributes.provider is None
    assert card.attributes.extra == (("Context length", "262,144 tokens"),)


def test_a_table_under_another_heading_holds_no_attributes():
    card = parse_card("## Key features\n| Field | Value |\n|---|---|\n| Architecture | MoE |\n")
    assert card.attributes.architecture is None
