"""Memory over context: the estimates for all contexts up to the trained one."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelrunner.errors import UsageError
from modelrunner.operations.estimate.report import Report
from modelrunner.text import sanitize_line

_POINTS = 64
_UNKNOWN_CONTEXT = 32768
_FAR = 3
"""A budget above this multiple of the curve is outside of the chart."""

_STEPS = (0.25, 0.5, 1, 2, 2.5, 5, 10, 20, 25, 50, 100, 200, 250, 500)


@dataclass(frozen=True, slots=True)
class Point:
    """The memory of one context: three layers, stacked."""

    context: int
    weights: int
    cache: int
    compute: int

    @property
    def total(self) -> int:
        """The sum of the three."""
        return self.weights + self.cache + self.compute


@dataclass(frozen=True, slots=True)
class Curve:
    """Memory over context.

    Attributes:
        title: The model's name.
        points: Contexts in order, at equal distances.
        context: The requested one.
        longest: The longest that fits, if that is known.
        budget: The available memory in bytes, if known.
    """

    title: str
    points: tuple[Point, ...]
    context: int
    longest: int | None
    budget: int | None

    @property
    def top(self) -> int:
        """Bytes at the upper edge: the whole curve, and a near budget."""
        highest = max(point.total for point in self.points)
        if self.budget is not None and self.budget <= _FAR * highest:
            highest = max(highest, self.budget)
        return round(1.08 * highest) or 1

    @property
    def end(self) -> int:
        """Tokens at the right edge."""
        return self.points[-1].context

    def to_dict(self) -> list[dict[str, int]]:
        """Return the curve as JSON."""
        return [
            {"context": point.context, "total_bytes": point.total, "cache_bytes": point.cache}
            for point in self.points
        ]


def curve_of(report: Report, count: int = _POINTS) -> Curve:
    """Return the curve of a report, up to the trained or the requested context.

    Raises:
        UsageError: The source is a card's row, which has one context.
    """
    end = max(report.trained or _UNKNOWN_CONTEXT, report.context)
    found = [report.at(max(1, end * i // count)) for i in range(1, count + 1)]
    points = [
        Point(
            load.each,
            (needed.weights or 0) + (needed.projector or 0),
            (needed.kv_cache or 0) + (needed.recurrent or 0),
            (needed.compute or 0) + (needed.output or 0),
        )
        for load, needed in filter(None, found)
    ]
    if not points:
        raise UsageError(
            f"{report.name}: cannot draw memory over context from the {report.estimate.source}"
            " alone",
            hint="remove --graph and --plot",
        )
    return Curve(
        sanitize_line(report.name, 60),
        tuple(points),
        report.context,
        report.fit.max_context,
        report.fit.budget_bytes,
    )


def ticks(top: int, most: int = 6) -> Sequence[int]:
    """Return round sizes from zero up to the upper edge, in its unit."""
    unit = 1
    while top >= 1024 * unit:
        unit *= 1024
    steps = (int(step * unit) for step in _STEPS)
    step = next(step for step in steps if step and top <= step * most)
    return range(0, top + 1, step)
