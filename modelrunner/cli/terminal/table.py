"""Tables without borders, as Docker prints them, no wider than the terminal.

A table that does not fit loses its least useful columns, then the ends of long texts; names and IDs
are never cut, since people copy them.
"""

from collections.abc import Iterator, Sequence

from modelrunner.frozen import frozen
from modelrunner.text import sanitize_line

_GAP = "  "
_LONGEST_CELL = 200
_SHORTEST_TEXT = 12


@frozen
class Table:
    """Rows under headings.

    Attributes:
        headings: The names of the columns; an empty one is allowed.
        rows: As many cells each as there are headings.
        drop: Headings of columns to drop on a narrow terminal, the least useful first.
        cut: Headings of columns of prose, which can be shortened.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    drop: Sequence[str] = ()
    cut: Sequence[str] = ()

    def lines(self, width: int | None = None) -> Iterator[str]:
        """Return the lines, headings first; a width of None is no limit."""
        if not self.rows and width is not None:
            # people have nothing to read; programs count on the headings
            return
        cells = [
            list(self.headings),
            *([sanitize_line(cell, _LONGEST_CELL) for cell in row] for row in self.rows),
        ]
        if width is not None:
            self._drop(cells, width)
            self._cut(cells, width)
        widths = _widths(cells)
        for row in cells:
            yield _GAP.join(map(_padded, row, widths)).rstrip()

    def _drop(self, cells: list[list[str]], width: int) -> None:
        for heading in self.drop:
            if _total(_widths(cells)) <= width:
                return
            place = cells[0].index(heading)
            for row in cells:
                del row[place]

    def _cut(self, cells: list[list[str]], width: int) -> None:
        for heading in self.cut:
            widths = _widths(cells)
            excess = _total(widths) - width
            if excess <= 0 or heading not in cells[0]:
                continue
            place = cells[0].index(heading)
            limit = max(widths[place] - excess, len(heading), _SHORTEST_TEXT)
            for row in cells:
                row[place] = _shortened(row[place], limit)


def cell_width(text: str) -> int:
    """Return the columns of a text on a terminal."""
    if text.isascii():
        return len(text)
    # loaded for the few texts that need it
    from wcwidth import wcswidth

    return max(0, wcswidth(text))


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_width, column)) for column in zip(*cells, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_width(text))


def _shortened(text: str, limit: int) -> str:
    if cell_width(text) <= limit:
        return text
    while text and cell_width(text) > limit - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"
