"""Memory over context as text, in the width of the terminal.

```
5 GiB |                                            ::::
      |- - - - - - - - - - - - - - - - - - -:::::::====  4.00 GiB
      |                          :::::::::::=======
      |################################################
0 B   +------------------------------------------------
       0                                  131072 tokens
                        ^ 32768
```
"""

from collections.abc import Iterator

from modelrunner.cli.plot.curve import Curve, Point, ticks
from modelrunner.units import format_size

ROWS = 14
NARROW, WIDE = 44, 120
_LABEL = 11
_LEGEND = ("# weights", "= cache and states", ": compute and output")


def text(curve: Curve, columns: int | None = None) -> Iterator[str]:
    """Yield the chart in lines without color.

    Args:
        curve: What to draw.
        columns: The width of a line; the terminal's width by default.
    """
    step = curve.top / ROWS
    budget_row = int(curve.budget / step) if curve.budget is not None else -1
    budget = f" {format_size(curve.budget)}" if curve.budget is not None else ""
    room = max(NARROW, min(WIDE, columns or _terminal())) - _LABEL - 1
    width = room - len(budget) if budget_row < ROWS else room
    points = [_nearest(curve, (i + 0.5) / width) for i in range(width)]
    labels = {int(size / step): format_size(size) for size in ticks(curve.top) if size}
    for row in range(ROWS - 1, -1, -1):
        marks = "".join(_mark(point, (row + 0.5) * step) for point in points)
        if row == budget_row:
            marks = _struck(marks) + budget
        yield f"{labels.get(row, ''):>{_LABEL}}|{marks}".rstrip()
    margin = " " * (_LABEL + 1)
    yield f"{'0':>{_LABEL}}+{'-' * width}"
    yield f"{margin}0{f'{curve.end} tokens':>{width - 1}}"
    yield f"{margin}{_pointer(curve, width)}"
    yield from _legend(room, margin)
    if budget_row >= ROWS:
        yield f"{margin}available memory ({format_size(curve.budget or 0)}) is above the chart"


def _terminal() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _legend(room: int, margin: str) -> Iterator[str]:
    line = "   ".join(_LEGEND)
    yield from [margin + line] if len(line) <= room else [margin + x for x in _LEGEND]


def _struck(marks: str) -> str:
    """Return a row with a dashed line through it."""
    return "".join(
        "-" if mark == " " or place % 2 else mark for place, mark in enumerate(marks, start=1)
    )


def _pointer(curve: Curve, width: int) -> str:
    """Return the mark of the requested context, on the side that has room."""
    at = min(width - 1, curve.context * width // curve.end)
    if at > width // 2:
        return f"{f'{curve.context} ^':>{at + 1}}"
    return f"{'':>{at}}^ {curve.context}"


def _mark(point: Point, middle: float) -> str:
    if middle <= point.weights:
        return "#"
    if middle <= point.weights + point.cache:
        return "="
    return ":" if middle <= point.total else " "


def _nearest(curve: Curve, place: float) -> Point:
    return min(curve.points, key=lambda point: abs(point.context - place * curve.end))
