"""A model card as blocks of clean text: headings, paragraphs and grids, ready to be drawn.

A card is other people's text. No control character, markup or HTML comment leaves this module.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from modelrunner.cards.card import Benchmark, Card, Variant
from modelrunner.cards.markdown import Section, plain, prose, sections
from modelrunner.cards.shapes import FIELDS, format_value
from modelrunner.text import sanitize, sanitize_line
from modelrunner.units import format_context, format_size

_TEXT_LIMIT = 4000
_FIRST_NUMBER = 3

_BULLET = re.compile(r"[-*+•][ \t]+|\d{1,3}[.)][ \t]+")
_EMPHASIS = re.compile(r"\*\*|__|(?<!\w)\*(?=\w)|(?<=[\w.:!?])\*(?!\w)")
_LINK = re.compile(r"!?\[([^\[\]]*+)\]\([^()\s]*+[^()]*+\)")

# Sections whose content has a place of its own, or makes no sense outside a web page.
_SHOWN_ELSEWHERE = (
    *("characteristics", "available model variants", "model shape", "description"),
    *("benchmark", "evaluation", "links", "resources", "docker model runner", "example"),
)


@dataclass(frozen=True, slots=True)
class Heading:
    """The name of what follows."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; `bullet` makes it an item of a list."""

    text: str
    bullet: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of cells; a cell may have several lines.

    Attributes:
        columns: The header; a grid without has none.
        numbers_from: The column from which on cells are numbers, set to the right.
        when_narrow: What a terminal without room for it gets: each row as a text, or the
            columns that fit.
    """

    rows: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...] = ()
    numbers_from: int = 99
    when_narrow: Literal["fold", "stack", "drop"] = "fold"


Block = Heading | Paragraph | Grid


def card_blocks(card: Card, marks: Mapping[str, str], name: str | None = None) -> Iterator[Block]:
    """The card in the order in which it is read; `marks` says something of a variant."""
    name = name or (f"ai/{card.name}" if card.name else None)
    title = _line(card.title or card.name or "a card without a title")
    yield Heading(f"{title} ({_line(name)})" if name else title)
    yield from _prose(card.description)
    if facts := tuple(_attributes(card)):
        yield Heading("Characteristics")
        yield Grid(facts)
    if card.variants:
        yield Heading("Variants")
        yield _variants(card, marks)
        if note := _note(card):
            yield Paragraph(note)
    if card.shapes:
        yield Heading("Model shape")
        yield _shapes(card)
    parts = sections(card.text)
    for part in parts:
        yield from _other(part)
    if card.warnings and not any("doubtful" in part.title.casefold() for part in parts):
        yield Heading("Warnings")
        yield from (Paragraph(_line(warning), bullet=True) for warning in card.warnings)
    if card.benchmarks:
        yield Heading("Benchmarks")
        yield from _benchmarks(card.benchmarks)
    if card.links:
        yield Heading("Links")
        yield from (Paragraph(_labelled(link.text, link.url), bullet=True) for link in card.links)


def _note(card: Card) -> str:
    parts: list[str] = []
    if any(variant.vram_bytes is not None for variant in card.variants):
        parts.append("VRAM is the card's figure for 4K tokens of context.")
    if card.latest:
        parts.append(f"`latest` is `{_line(card.latest)}`.")
    return " ".join(parts)


def _attributes(card: Card) -> Iterator[tuple[str, str]]:
    facts = card.attributes
    named = {
        "Provider": facts.provider,
        "Architecture": facts.architecture,
        "Cutoff date": facts.cutoff_date,
        "Languages": ", ".join(facts.languages or ()),
        "Tool calling": None if facts.tool_calling is None else _yes(facts.tool_calling),
        "Input": ", ".join(facts.input_modalities or ()),
        "Output": ", ".join(facts.output_modalities or ()),
        "License": facts.license,
        **dict(facts.extra),
    }
    return ((_line(name), _line(value)) for name, value in named.items() if value)


def _yes(value: bool) -> str:  # noqa: FBT001 - the value is what is shown
    return "yes" if value else "no"


def _variants(card: Card, marks: Mapping[str, str]) -> Grid:
    """The rows, without the columns of which the card says nothing at all."""
    columns = (*("TAG", "PARAMETERS", "QUANTIZATION", "CONTEXT", "VRAM", "SIZE"), "FITS")
    rows = [
        (*_variant(variant), next((_line(marks[r]) for r in variant.references if r in marks), "-"))
        for variant in card.variants
    ]
    used = [place for place in range(len(columns)) if any(row[place] != "-" for row in rows)]
    return Grid(
        tuple(tuple(row[place] for place in used) for row in rows),
        tuple(columns[place] for place in used),
        numbers_from=sum(place < _FIRST_NUMBER for place in used),
        when_narrow="stack",
    )


def _variant(variant: Variant) -> tuple[str, ...]:
    context = variant.context_tokens
    return (
        "\n".join(_line(tag) for tag in variant.tags) or "-",
        _line(variant.parameters_text or "-"),
        _line(variant.quantization or "-"),
        "-" if context is None else format_context(context),
        "-" if variant.vram_bytes is None else format_size(variant.vram_bytes),
        "-" if variant.size_bytes is None else format_size(variant.size_bytes),
    )


def _shapes(card: Card) -> Grid:
    shapes = card.shapes
    rows = tuple(
        (title, *(_line(format_value(shape.get(key))) for shape in shapes.values()))
        for title, key in FIELDS.items()
        if any(key in shape for shape in shapes.values())
    )
    return Grid(rows, ("", *(_line(size) for size in shapes)), numbers_from=1)


def _benchmarks(scores: Sequence[Benchmark]) -> Iterator[Grid]:
    """One grid for each run of scores with the same columns."""
    for columns, group in groupby(scores, lambda s: tuple(name for name, _ in s.values)):
        rows: list[tuple[str, ...]] = []
        category: str | None = None
        for score in group:
            if score.category and score.category != category:
                category = score.category
                rows.append((_line(category),))
            indent = "  " if category else ""
            values = [value for _, value in score.values] or [score.value]
            rows.append((indent + _line(score.metric), *map(_line, values)))
        head = ("", *map(_line, columns)) if columns else ()
        yield Grid(tuple(rows), head, numbers_from=1, when_narrow="drop")


def _other(part: Section) -> Iterator[Block]:
    """A section without a place of its own: its text, then its tables."""
    path = " ".join((*part.parents, part.title)).casefold()
    if part.level < 2 or any(word in path for word in _SHOWN_ELSEWHERE):  # noqa: PLR2004
        return
    lines = [line for line in part.lines if not line.lstrip().startswith("|")]
    blocks: list[Block] = [*_prose(prose(lines))]
    for table in part.tables():
        rows = tuple(tuple(_line(plain(cell)) for cell in row) for row in table.rows)
        blocks.append(Grid(rows, tuple(_line(plain(cell)) for cell in table.columns)))
    if blocks:
        yield Heading(_line(part.title))
        yield from blocks


def _prose(text: str) -> Iterator[Paragraph]:
    """Markdown's paragraphs and list items as text without markup."""
    held: list[str] = []
    bullet = False
    for line in [*sanitize(text).split("\n"), ""]:
        stripped = line.strip()
        item = _BULLET.match(stripped)
        if held and (item or not stripped):
            yield Paragraph(_inline(" ".join(held)), bullet)
            held, bullet = [], False
        if stripped:
            bullet = bullet or item is not None
            held.append(stripped[item.end() :] if item else stripped)


def _inline(text: str) -> str:
    return _line(_EMPHASIS.sub("", _LINK.sub(r"\1", text)))


def _labelled(text: str, url: str) -> str:
    return _line(url if text == url else f"{_inline(text)}: {url}")


def _line(text: str) -> str:
    return sanitize_line(text, _TEXT_LIMIT)
