"""A model card on a terminal and in a pipe: the same blocks, drawn twice."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from modelrunner.cards.card import Card
from modelrunner.cli.card_blocks import Block, Code, Grid, Heading, Paragraph, card_blocks

_NUMBERED = re.compile(r"\d{1,3}[.)] ")

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
    return "" if _NUMBERED.match(item) else "-"


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
