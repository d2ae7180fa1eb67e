"""The picture of an estimate: memory over context against what there is, as text or as SVG.

```
16 GiB |                                            ::::
       |- - - - - - - - - - - - - - - - - - -:::::::====  12.00 GiB
       |                          :::::::::::=======
       |##############################################
       +----------------------------------------------
        0                                 131072 tokens
                         ^ 32768
```
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from modelrunner.errors import UsageError
from modelrunner.operations.report import Report
from modelrunner.store.files import write_lightly
from modelrunner.text import sanitize_line
from modelrunner.units import format_context, format_size

COLUMNS, ROWS = 58, 14
_POINTS = 64
_UNKNOWN_CONTEXT = 32768
_LEGEND = "# weights   = cache and states   : compute and output"
_LABEL = 11


@dataclass(frozen=True, slots=True)
class Point:
    """What a context takes: three layers, one on the other."""

    context: int
    weights: int
    cache: int
    compute: int

    @property
    def total(self) -> int:
        """All three."""
        return self.weights + self.cache + self.compute


@dataclass(frozen=True, slots=True)
class Curve:
    """Memory over context.

    Attributes:
        title: Which model.
        points: Contexts in order, at the same distance.
        context: The one that was asked for.
        longest: The longest that fits, if that is known.
        budget: What there is, if that is known.
    """

    title: str
    points: tuple[Point, ...]
    context: int
    longest: int | None
    budget: int | None

    @property
    def top(self) -> int:
        """Bytes at the upper edge: all of the curve, and the budget where it is near."""
        highest = max(point.total for point in self.points)
        if self.budget is not None and self.budget <= 3 * highest:
            highest = max(highest, self.budget)
        return round(1.08 * highest) or 1

    @property
    def end(self) -> int:
        """Tokens at the right edge."""
        return self.points[-1].context

    def to_dict(self) -> list[dict[str, int]]:
        """The curve as JSON has it."""
        return [
            {"context": point.context, "total_bytes": point.total, "cache_bytes": point.cache}
            for point in self.points
        ]


def curve_of(report: Report, count: int = _POINTS) -> Curve:
    """The curve of a report, up to the trained context or the one that was asked for.

    Raises:
        UsageError: Only a card's row is known, which is for one context.
    """
    end = max(report.trained or _UNKNOWN_CONTEXT, report.load.context)
    found = [report.at(max(1, end * i // count)) for i in range(1, count + 1)]
    points = [
        Point(
            load.context,
            (needed.weights or 0) + (needed.projector or 0),
            (needed.kv_cache or 0) + (needed.recurrent or 0),
            (needed.compute or 0) + (needed.output or 0),
        )
        for load, needed in filter(None, found)
    ]
    if not points:
        raise UsageError(
            f"{report.name}: memory over context is not known, only {report.estimate.source} is",
            hint="leave out --graph and --plot",
        )
    return Curve(
        sanitize_line(report.name, 60),
        tuple(points),
        report.load.context,
        report.fit.max_context,
        report.fit.budget_bytes,
    )


def text(curve: Curve) -> Iterator[str]:
    """The picture in lines of at most 80 characters, without colour."""
    step = curve.top / ROWS
    columns = [_nearest(curve, (i + 0.5) / COLUMNS) for i in range(COLUMNS)]
    budget_row = int(curve.budget / step) if curve.budget is not None else -1
    for row in range(ROWS - 1, -1, -1):
        middle = (row + 0.5) * step
        marks = "".join(_mark(point, middle) for point in columns)
        end = ""
        if row == budget_row and curve.budget is not None:
            marks = "".join("-" if mark == " " else mark for mark in marks)
            end = f" {format_size(curve.budget)}"
        label = format_size(round((row + 1) * step)) if row % 4 == ROWS % 4 - 1 else ""
        yield f"{label:>{_LABEL}}|{marks}{end}".rstrip()
    yield f"{'':>{_LABEL}}+{'-' * COLUMNS}"
    yield f"{'':>{_LABEL + 1}}0{f'{curve.end} tokens':>{COLUMNS - 1}}"
    yield f"{'':>{_LABEL + 1}}{_pointer(curve)}"
    yield f"{'':>{_LABEL + 1}}{_LEGEND}"
    if budget_row >= ROWS and curve.budget is not None:
        yield f"{'':>{_LABEL + 1}}there are {format_size(curve.budget)}, far above the picture"


def _pointer(curve: Curve) -> str:
    """The context that was asked for, below its place, on the side where there is room."""
    at = min(COLUMNS - 1, curve.context * COLUMNS // curve.end)
    if at > COLUMNS // 2:
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


WIDTH, HEIGHT = 720, 420
_LEFT, _RIGHT, _UPPER, _LOWER = 84, 24, 56, 64
_LAYERS = (
    ("weights", "#4c78a8"),
    ("cache and states", "#f2a541"),
    ("compute and output", "#b3b3b3"),
)


def svg(curve: Curve) -> str:
    """The picture as an SVG document."""
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">',
            f"<title>{escape(curve.title)}: memory over context</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            _label(_LEFT, 22, f"{curve.title}: memory over context", size=15),
            *_areas(curve),
            *_axes(curve),
            *_marks(curve),
            *_legend(),
            "</svg>\n",
        ]
    )


def write(curve: Curve, path: Path) -> None:
    """Writes the picture into a file, as its name says: `.svg`, or `.png` with CairoSVG.

    Raises:
        UsageError: Another kind of file, no CairoSVG, or a place that cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in (".svg", ".png"):
        raise UsageError(f"--plot: {path} is neither .svg nor .png", hint="write it like plot.svg")
    content = svg(curve).encode()
    if kind == ".png":
        content = _png(content)
    try:
        write_lightly(path, content)
    except OSError as exc:
        raise UsageError(f"--plot: {path} cannot be written: {exc.strerror}") from exc


def _png(document: bytes) -> bytes:
    from importlib import import_module

    try:
        library = import_module("cairosvg")
    except (ImportError, OSError) as exc:
        # OSError: the package is there, and the C library that it binds is not
        raise UsageError(
            "--plot: a .png needs CairoSVG, which is not installed",
            hint="write a .svg, or pip install cairosvg",
        ) from exc
    content: bytes = library.svg2png(bytestring=document, scale=2)
    return content


def _x(curve: Curve, context: int) -> float:
    return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * context / curve.end, 1)


def _y(curve: Curve, size: int) -> float:
    return round(HEIGHT - _LOWER - (HEIGHT - _UPPER - _LOWER) * size / curve.top, 1)


def _areas(curve: Curve) -> Iterator[str]:
    below = [0] * len(curve.points)
    layers = (
        [point.weights for point in curve.points],
        [point.cache for point in curve.points],
        [point.compute for point in curve.points],
    )
    for (name, colour), layer in zip(_LAYERS, layers, strict=True):
        above = [low + size for low, size in zip(below, layer, strict=True)]
        edge = [*_edge(curve, above), *reversed(list(_edge(curve, below)))]
        points = " ".join(f"{x},{y}" for x, y in edge)
        yield f'<polygon class="{name}" points="{points}" fill="{colour}"/>'
        below = above


def _edge(curve: Curve, sizes: Sequence[int]) -> Iterator[tuple[float, float]]:
    # the least that a context takes is what the shortest one does
    yield _x(curve, 0), _y(curve, sizes[0])
    for point, size in zip(curve.points, sizes, strict=True):
        yield _x(curve, point.context), _y(curve, size)


def _axes(curve: Curve) -> Iterator[str]:
    left, right, bottom = _x(curve, 0), _x(curve, curve.end), _y(curve, 0)
    yield _line(left, bottom, right, bottom)
    yield _line(left, bottom, left, _UPPER)
    for i in range(5):
        size, context = curve.top * i // 4, curve.end * i // 4
        yield _label(left - 6, _y(curve, size) + 4, format_size(size), anchor="end")
        yield _label(_x(curve, context), bottom + 18, format_context(context), anchor="middle")
    yield _label((left + right) / 2, bottom + 36, "tokens of context", anchor="middle")


def _marks(curve: Curve) -> Iterator[str]:
    if curve.budget is not None and curve.budget <= curve.top:
        y = _y(curve, curve.budget)
        yield _line(_x(curve, 0), y, _x(curve, curve.end), y, 'stroke="#c0392b" class="budget"')
        about = f"there are {format_size(curve.budget)}"
        yield _label(_x(curve, curve.end), y - 5, about, anchor="end")
    for context, about in ((curve.context, "estimated"), (curve.longest, "fits at most")):
        if context is not None:
            x = _x(curve, context)
            yield _line(x, _y(curve, 0), x, _UPPER, 'stroke="#555" class="context"')
            anchor = "end" if x > WIDTH / 2 else "start"
            height = _UPPER + (14 if about == "fits at most" else 0)
            yield _label(x, height, f" {format_context(context)} {about} ", anchor=anchor)


def _legend() -> Iterator[str]:
    x = _LEFT
    for name, colour in _LAYERS:
        yield f'<rect x="{x}" y="{HEIGHT - 18}" width="10" height="10" fill="{colour}"/>'
        yield _label(x + 15, HEIGHT - 9, name)
        x += 40 + 7 * len(name)


def _line(x1: float, y1: float, x2: float, y2: float, style: str = 'stroke="black"') -> str:
    dashes = ' stroke-dasharray="5 4"' if "class" in style else ""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {style}{dashes}/>'


def _label(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'
