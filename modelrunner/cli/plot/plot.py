"""The chart of an estimate, memory over context: as text, or as a file."""

from html import escape
from pathlib import Path

from modelrunner.cli.plot.curve import Curve, Point, curve_of
from modelrunner.cli.plot.shapes import HEIGHT, WIDTH, Area, Line, Shape, shapes
from modelrunner.cli.plot.text import text
from modelrunner.disk.files import cannot_write, write_lightly
from modelrunner.errors import UsageError

__all__ = ["HEIGHT", "WIDTH", "Curve", "Point", "curve_of", "svg", "text", "write"]


def write(curve: Curve, path: Path) -> None:
    """Write the chart to a file, in the format of its name: `.svg`, or `.png` with Pillow.

    Raises:
        UsageError: Unsupported file type, missing Pillow, or the file cannot be written.
        DiskFullError: There is no room for it.
    """
    kind = path.suffix.lower()
    if kind not in (".svg", ".png"):
        raise UsageError(
            f"--plot: unsupported file type: {path}", hint="use a name that ends in .svg or .png"
        )
    if kind == ".png":
        # most charts are SVG
        from modelrunner.cli.plot.png import png

        content = png(shapes(curve))
    else:
        content = svg(curve).encode()
    try:
        write_lightly(path, content)
    except OSError as exc:
        raise cannot_write(exc, str(path), option="--plot") from exc


def svg(curve: Curve) -> str:
    """Return the chart as an SVG document."""
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    font = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
            f"<title>{escape(curve.title)}: memory over context</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            *map(_element, shapes(curve)),
            "</svg>\n",
        ]
    )


def _element(shape: Shape) -> str:
    if isinstance(shape, Area):
        points = " ".join(f"{x},{y}" for x, y in shape.points)
        name = f'class="{shape.name}" ' if shape.name else ""
        return f'<polygon {name}points="{points}" fill="{shape.colour}"/>'
    if isinstance(shape, Line):
        (x1, y1), (x2, y2) = shape.start, shape.end
        dashes = f' class="{shape.name}" stroke-dasharray="5 4"' if shape.name else ""
        return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{shape.colour}"{dashes}/>'
    x, y = shape.place
    look = f'font-size="{shape.size}" fill="{shape.colour}"'
    rim = 'stroke="white" stroke-width="3" stroke-linejoin="round" paint-order="stroke"'
    return (
        f'<text x="{x}" y="{y}" text-anchor="{shape.anchor}" {look} {rim}>'
        f"{escape(shape.text)}</text>"
    )
