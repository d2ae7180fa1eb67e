"""Memory over context as shapes of a chart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from modelrunner.cli.plot.curve import Curve, ticks
from modelrunner.units import format_size

WIDTH, HEIGHT = 720, 440
Anchor = Literal["start", "middle", "end"]

_LEFT, _RIGHT, _UPPER, _LOWER = 84, 40, 92, 68
_INK, _GREY, _RED, _PALE, _WHITE = "#222222", "#555555", "#c0392b", "#e4e4e4", "#ffffff"
_LAYERS = (
    ("weights", "#4c78a8"),
    ("cache and states", "#f2a541"),
    ("compute and output", "#b3b3b3"),
)
_ROW = 16
_GAP = 5


@dataclass(frozen=True, slots=True)
class Area:
    """A filled polygon."""

    points: tuple[tuple[float, float], ...]
    colour: str
    name: str


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line; `name` is what a dashed one marks."""

    start: tuple[float, float]
    end: tuple[float, float]
    colour: str = _INK
    name: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text at its baseline, with a white rim for contrast."""

    place: tuple[float, float]
    text: str
    anchor: Anchor = "start"
    size: int = 12
    colour: str = _INK


Shape = Area | Line | Words


def shapes(curve: Curve) -> Iterator[Shape]:
    """Yield the shapes of the chart, from back to front."""
    yield Words((_LEFT, 26), curve.title, size=16)
    yield Words((_LEFT, 46), _subtitle(curve), colour=_GREY)
    yield from _grid(curve)
    yield from _areas(curve)
    yield from _axes(curve)
    yield from _budget(curve)
    yield from _contexts(curve)
    yield from _legend()


def _subtitle(curve: Curve) -> str:
    if curve.budget is not None and curve.budget > curve.top:
        room = format_size(curve.budget)
        return f"memory over context; available memory ({room}) is above the chart"
    return "memory over context"


def _x(curve: Curve, context: int) -> float:
    return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * context / curve.end, 1)


def _y(curve: Curve, size: int) -> float:
    return round(HEIGHT - _LOWER - (HEIGHT - _UPPER - _LOWER) * size / curve.top, 1)


def _grid(curve: Curve) -> Iterator[Shape]:
    for size in ticks(curve.top):
        y = _y(curve, size)
        yield Line((_LEFT, y), (_x(curve, curve.end), y), _PALE)
        yield Words((_LEFT - 6, y + 4), format_size(size) if size else "0", "end")


def _areas(curve: Curve) -> Iterator[Shape]:
    below = [0] * len(curve.points)
    layers = (
        [point.weights for point in curve.points],
        [point.cache for point in curve.points],
        [point.compute for point in curve.points],
    )
    for (name, colour), layer in zip(_LAYERS, layers, strict=True):
        above = [low + size for low, size in zip(below, layer, strict=True)]
        edge = (*_edge(curve, above), *reversed(list(_edge(curve, below))))
        yield Area(edge, colour, name)
        below = above


def _edge(curve: Curve, sizes: Sequence[int]) -> Iterator[tuple[float, float]]:
    # the least that a context takes is what the shortest one does
    yield _x(curve, 0), _y(curve, sizes[0])
    for point, size in zip(curve.points, sizes, strict=True):
        yield _x(curve, point.context), _y(curve, size)


def _axes(curve: Curve) -> Iterator[Shape]:
    right, bottom = _x(curve, curve.end), _y(curve, 0)
    yield Line((_LEFT, bottom), (right, bottom))
    yield Line((_LEFT, bottom), (_LEFT, _UPPER))
    for context in dict.fromkeys(curve.end * i // 4 for i in range(5)):
        x = _x(curve, context)
        yield Line((x, bottom), (x, bottom + 4))
        yield Words((x, bottom + 18), str(context), "middle")
    yield Words(((_LEFT + right) / 2, bottom + 35), "tokens of context", "middle", colour=_GREY)


def _budget(curve: Curve) -> Iterator[Shape]:
    if curve.budget is None or curve.budget > curve.top:
        return
    y, right = _y(curve, curve.budget), _x(curve, curve.end)
    yield from _dashed((_LEFT, y), (right, y), _RED, "budget")
    yield Words(
        (_LEFT + _GAP, y - _GAP), f"available: {format_size(curve.budget)}", "start", colour=_RED
    )


def _contexts(curve: Curve) -> Iterator[Shape]:
    """Yield the requested and the longest context, above the chart, in one row each."""
    marks = [(curve.context, f"{curve.context} estimated")]
    if curve.longest == curve.context:
        marks = [(curve.context, f"{curve.context} estimated, the longest that fits")]
    elif curve.longest is not None and curve.longest <= curve.end:
        marks.append((curve.longest, f"{curve.longest} fits at most"))
    for row, (context, about) in enumerate(marks):
        x, y = _x(curve, context), _UPPER - _ROW * (len(marks) - row) + 8
        yield from _dashed((x, _y(curve, 0)), (x, y - 8), _GREY, "context")
        if x > WIDTH / 2:
            yield Words((x - _GAP, y), about, "end")
        else:
            yield Words((x + _GAP, y), about)


def _dashed(
    start: tuple[float, float], end: tuple[float, float], colour: str, name: str
) -> Iterator[Shape]:
    """Yield dashes with white between them, for contrast."""
    yield Line(start, end, _WHITE)
    yield Line(start, end, colour, name)


def _legend() -> Iterator[Shape]:
    x, bottom = _LEFT, HEIGHT - 10
    for name, colour in _LAYERS:
        yield Area(
            ((x, bottom - 10), (x + 10, bottom - 10), (x + 10, bottom), (x, bottom)), colour, ""
        )
        yield Words((x + 15, bottom - 1), name)
        x += 40 + 7 * len(name)
