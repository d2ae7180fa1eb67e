"""A model card as blocks of clean text: headings, paragraphs and grids, ready to be drawn.

A card is other people's text. No control character, markup or HTML comment leaves this module.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from modelrunner.cards.card import Attributes, Benchmark, Card, Variant
from modelrunner.cards.markdown import (
    Section,
    code_at,
    is_picture_or_rule,
    plain,
    sections,
    table_at,
)
from modelrunner.cards.parser import description_of
from modelrunner.cards.shapes import FIELDS, format_value
from modelrunner.text import sanitize, sanitize_line
from modelrunner.units import format_context, format_size

_TEXT_LIMIT = 4000
_CODE_INDENT = "    "
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
    """Running text.

    Attributes:
        text: In one line.
        bullet: Whether it is an item of a list.
        depth: How many lists it stands in beyond the first.
    """

    text: str
    bullet: bool = False
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Code:
    """Lines that are shown as they are."""

    lines: tuple[str, ...]


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


Block = Heading | Paragraph | Code | Grid


def card_blocks(card: Card, marks: Mapping[str, str], name: str | None = None) -> Iterator[Block]:
    """The card in the order in which it is read; `marks` says something of a variant."""
    name = name or (f"ai/{card.name}" if card.name else None)
    title = _line(card.title or card.name or "a card without a title")
    yield Heading(f"{title} ({_line(name)})" if name else title)
    yield from _markdown(card.description.split("\n"))
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
    # another document, such as a README, is shown whole
    is_card = card.attributes != Attributes() or card.variants or card.shapes
    if is_card:
        for part in parts:
            yield from _other(part)
    else:
        yield from _document(card, parts)
    if card.warnings and not any("doubtful" in part.title.casefold() for part in parts):
        yield Heading("Warnings")
        yield from (Paragraph(_line(warning), bullet=True) for warning in card.warnings)
    if is_card and card.benchmarks:
        yield Heading("Benchmarks")
        yield from _benchmarks(card.benchmarks)
    if is_card and card.links:
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


def _document(card: Card, parts: Sequence[Section]) -> Iterator[Block]:
    """Every section of a text that is no card, but the one that is its description."""
    described = description_of(parts)
    for part in parts:
        if part is described:
            continue
        blocks = list(_markdown(part.source))
        if part.title and part.title != card.title:
            yield Heading(_line(part.title))
        yield from blocks


def _other(part: Section) -> Iterator[Block]:
    """A section without a place of its own."""
    path = " ".join((*part.parents, part.title)).casefold()
    if part.level < 2 or any(word in path for word in _SHOWN_ELSEWHERE):  # noqa: PLR2004
        return
    blocks = list(_markdown(part.source))
    if blocks:
        yield Heading(_line(part.title))
        yield from blocks


def _markdown(lines: Sequence[str]) -> Iterator[Block]:
    """Markdown's paragraphs, list items, code and tables, without markup, in their order."""
    text = _Text()
    number = 0
    while number < len(lines):
        line = lines[number]
        code, table = code_at(lines, number), table_at(lines, number)
        if code is not None:
            yield from text.ended()
            found, number = code
            yield Code(tuple(map(_code, found)))
        elif table is not None:
            yield from text.ended()
            grid, number = table
            rows = tuple(tuple(_line(plain(cell)) for cell in row) for row in grid.rows)
            yield Grid(rows, tuple(_line(plain(cell)) for cell in grid.columns))
        elif text.is_between and line.startswith(_CODE_INDENT) and line.strip():
            end = _end_of_indented(lines, number)
            yield Code(tuple(_code(line.removeprefix(_CODE_INDENT)) for line in lines[number:end]))
            number = end
        else:
            yield from text.line("" if is_picture_or_rule(line) else line)
            number += 1
    yield from text.ended()


def _end_of_indented(lines: Sequence[str], number: int) -> int:
    """The number of the line behind code that is marked by its indent: blank lines may be in it."""
    end = number
    for place in range(number, len(lines)):
        if lines[place].startswith(_CODE_INDENT) and lines[place].strip():
            end = place + 1
        elif lines[place].strip():
            break
    return end


class _Text:
    """Lines that become paragraphs and list items."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._bullet = False
        self._indents: list[int] = []
        """Where the marks of the lists begin that are open, the outermost first."""

    @property
    def is_between(self) -> bool:
        """Whether neither a paragraph nor a list is open: an indent is one of code then."""
        return not self._held and not self._indents

    def line(self, line: str) -> Iterator[Paragraph]:
        """Takes a line; gives the paragraph that it ends."""
        stripped = sanitize(line).strip()
        item = _BULLET.match(stripped)
        if item or not stripped:
            yield from self.ended()
        if not stripped:
            return
        indent = len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip())
        if item:
            # a list inside another is indented by two at least
            self._indents = [each for each in self._indents if each + 2 <= indent]
            self._indents.append(indent)
            self._bullet = True
            number = stripped[: item.end()].strip()
            stripped = stripped[item.end() :]
            if number[0].isdigit():
                stripped = f"{number} {stripped}"
        elif not self._held and indent == 0:
            self._indents = []
        self._held.append(stripped)

    def ended(self) -> Iterator[Paragraph]:
        """The paragraph that is open, if one is."""
        if self._held:
            depth = max(0, len(self._indents) - 1)
            yield Paragraph(_inline(" ".join(self._held)), self._bullet, depth)
        self._held, self._bullet = [], False


def _code(line: str) -> str:
    return sanitize(line.expandtabs(4))[:_TEXT_LIMIT].rstrip()


def _inline(text: str) -> str:
    return _line(_EMPHASIS.sub("", _LINK.sub(r"\1", text)))


def _labelled(text: str, url: str) -> str:
    return _line(url if text == url else f"{_inline(text)}: {url}")


def _line(text: str) -> str:
    return sanitize_line(text, _TEXT_LIMIT)
