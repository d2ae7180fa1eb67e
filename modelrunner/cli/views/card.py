"""A model card on a terminal and in a pipe: the same blocks of clean text, drawn twice.

A card is other people's text. No control character, markup or HTML comment leaves this module.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from modelrunner.cards.card import Attributes, Benchmark, Card, Variant
from modelrunner.cards.markdown import (
    Section,
    code_at,
    is_picture_or_rule,
    plain,
    sections,
    table_at,
    without_marks,
)
from modelrunner.cards.parser import description_of
from modelrunner.cards.shapes import FIELDS, format_value
from modelrunner.text import sanitize, sanitize_line
from modelrunner.units import format_context, format_size

_TEXT_LIMIT = 4000
_CODE_INDENT = "    "
_FIRST_NUMBER = 3

_BULLET = r"[-*+•][ \t]+|\d{1,3}[.)][ \t]+"

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
        item = re.match(_BULLET, stripped)
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
    return _line(without_marks(text))


def _labelled(text: str, url: str) -> str:
    return _line(url if text == url else f"{_inline(text)}: {url}")


def _line(text: str) -> str:
    return sanitize_line(text, _TEXT_LIMIT)


_NUMBERED = r"\d{1,3}[.)] "

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def render_card(
    card: Card,
    console: "Console",
    marks: Mapping[str, str] | None = None,
    name: str | None = None,
) -> None:
    """Draw a card in the width of the console.

    Args:
        card: What to draw.
        console: The console to draw on.
        marks: Annotations of variants by one of their references: `fits`, `too large`.
        name: The model's name, if it is outside of Docker's own namespace.
    """
    before: Block | None = None
    for block in card_blocks(card, marks or {}, name):
        if before is not None and _stands_apart(before, block):
            console.print()
        console.print(_drawn(block, console.width), highlight=False, markup=False, emoji=False)
        before = block


def card_text(card: Card, marks: Mapping[str, str] | None = None, name: str | None = None) -> str:
    """Return the card as plain text for a pipe: no color, no wrapping, padded columns."""
    lines: list[str] = []
    for block in card_blocks(card, marks or {}, name):
        match block:
            case Heading(text):
                lines.extend(([""] if lines else []) + [text])
            case Paragraph(text, bullet, depth):
                mark = _mark(text) if bullet else ""
                lines.append("  " * depth + (f"{mark} {text}" if mark else text))
            case Code():
                lines.extend(_indented(block))
            case Grid():
                lines.extend(_aligned(block))
    return "\n".join(lines) + "\n"


def _stands_apart(before: Block, block: Block) -> bool:
    """Whether an empty line separates two blocks."""
    if isinstance(before, Paragraph) and isinstance(block, Paragraph):
        return not block.bullet
    return isinstance(block, Heading)


def _drawn(block: Block, width: int) -> "RenderableType":
    from rich.text import Text

    match block:
        case Heading(text):
            return Text(text, style="bold")
        case Paragraph():
            return _paragraph(block)
        case Code():
            return Text("\n".join(_indented(block)), style="dim", overflow="fold")
        case Grid():
            if block.when_narrow == "fold" or _needed(block) <= width:
                return _table(block)
            if block.when_narrow == "stack":
                return Text("\n".join(_stacked(block)), overflow="fold")
            return _table(_dropped(block, width))


def _paragraph(paragraph: Paragraph) -> "RenderableType":
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    text = Text(paragraph.text, overflow="fold")
    drawn: RenderableType = text
    mark = _mark(paragraph.text) if paragraph.bullet else ""
    if mark:
        item = Table.grid(padding=(0, 1))
        item.add_row(Text(mark), text)
        drawn = item
    return Padding(drawn, (0, 0, 0, 2 * paragraph.depth)) if paragraph.depth else drawn


def _mark(item: str) -> str:
    """The mark before a list item; a numbered one has its number."""
    return "" if re.match(_NUMBERED, item) else "-"


def _indented(code: Code) -> Iterator[str]:
    return (f"    {line}".rstrip() for line in code.lines)


def _table(grid: Grid) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    count = max((len(row) for row in (grid.columns, *grid.rows)), default=0)
    table = Table(box=None, pad_edge=False, show_header=bool(grid.columns), padding=(0, 2, 0, 0))
    for place in range(count):
        title = grid.columns[place] if place < len(grid.columns) else ""
        table.add_column(
            Text(title, style="dim"),
            justify="right" if grid.numbers_from <= place else "left",
            overflow="fold",
        )
    for row in grid.rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    return table


def _needed(grid: Grid) -> int:
    """Return the width at which no cell of a grid is broken."""
    return sum(width + 2 for width in _widths([grid.columns, *grid.rows])) - 2


def _widths(rows: Iterable[Sequence[str]]) -> list[int]:
    widths: list[int] = []
    for row in rows:
        for place, cell in enumerate(row):
            longest = max(map(len, cell.split("\n")))
            if place == len(widths):
                widths.append(longest)
            elif len(row) > 1:  # a row of one cell, a category, runs on over its neighbours
                widths[place] = max(widths[place], longest)
    return widths


def _stacked(grid: Grid) -> Iterator[str]:
    """Return each row as a paragraph."""
    for row in grid.rows:
        facts = (f"{t.lower()} {c}" for t, c in zip(grid.columns[1:], row[1:], strict=False) if c)
        yield row[0].replace("\n", ", ")
        yield f"  {', '.join(facts)}"


def _dropped(grid: Grid, width: int) -> Grid:
    """Return the grid with as many of its first columns as fit, at least two."""
    count = len(grid.columns)
    cut = grid
    while count > 2 and _needed(cut) > width:  # noqa: PLR2004
        count -= 1
        rows = tuple(row[:count] for row in grid.rows)
        cut = replace(grid, rows=rows, columns=grid.columns[:count])
    return cut


def _aligned(grid: Grid) -> Iterator[str]:
    rows = [tuple(cell.replace("\n", ", ") for cell in row) for row in grid.rows]
    head = [grid.columns] if grid.columns else []
    widths = _widths([*head, *rows])
    for row in (*head, *rows):
        cells = (
            cell.rjust(width) if place >= grid.numbers_from else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        )
        yield "  ".join(cells).rstrip()
