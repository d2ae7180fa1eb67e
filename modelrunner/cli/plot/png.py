"""The chart as a PNG, drawn with Pillow and the font that it includes."""

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from modelrunner.cli.plot.shapes import HEIGHT, WIDTH, Area, Line, Shape, Words
from modelrunner.errors import UsageError
from modelrunner.system import installation

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_SCALE = 2
"""Pixels per unit of the chart."""

_FINER = 2
"""Factor of oversampling, which makes edges smooth."""

_DASH, _PAUSE = 5, 4
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def png(drawn: Iterable[Shape]) -> bytes:
    """Return the chart as a PNG file.

    Raises:
        UsageError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as exc:
        raise UsageError(
            "--plot: a .png needs Pillow, which is not installed",
            hint=f"write a .svg, or install it: `{installation.add('plot')}`",
        ) from exc

    shapes = list(drawn)
    scale = _SCALE * _FINER
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "white")
    pencil = ImageDraw.Draw(image)
    for shape in shapes:
        _draw(pencil, shape, scale)
    image = image.resize((WIDTH * _SCALE, HEIGHT * _SCALE), Image.Resampling.BOX)
    pencil = ImageDraw.Draw(image)
    for shape in shapes:
        if isinstance(shape, Words):
            _write(pencil, shape)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def _draw(pencil: "ImageDraw", shape: Shape, scale: int) -> None:
    if isinstance(shape, Area):
        pencil.polygon([(x * scale, y * scale) for x, y in shape.points], fill=shape.colour)
    elif isinstance(shape, Line):
        for (x1, y1), (x2, y2) in _strokes(shape):
            ends = (x1 * scale, y1 * scale, x2 * scale, y2 * scale)
            pencil.line(ends, fill=shape.colour, width=scale)


def _strokes(line: Line) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Return the line, or its dashes."""
    if not line.name:
        yield line.start, line.end
        return
    (x1, y1), (x2, y2) = line.start, line.end
    length = max(abs(x2 - x1), abs(y2 - y1))
    at = 0.0
    while at < length:
        a, b = at / length, min(at + _DASH, length) / length
        yield (
            (x1 + (x2 - x1) * a, y1 + (y2 - y1) * a),
            (x1 + (x2 - x1) * b, y1 + (y2 - y1) * b),
        )
        at += _DASH + _PAUSE


def _write(pencil: "ImageDraw", words: Words) -> None:
    from PIL import ImageFont

    pencil.text(
        (words.place[0] * _SCALE, words.place[1] * _SCALE),
        words.text,
        fill=words.colour,
        font=ImageFont.load_default(words.size * _SCALE),
        anchor=_ANCHORS[words.anchor],
        stroke_width=_SCALE,
        stroke_fill="white",
    )
