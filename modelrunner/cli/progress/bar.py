"""A transfer as one bar on a terminal: over all blobs, and all models.

It is removed when the transfer ends; the result is printed instead.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import assert_never

from modelrunner.cli.progress.tally import (
    Tally,
    plan_text,
    retry_text,
    unpacking_text,
    waiting_text,
)
from modelrunner.cli.terminal.console import Console
from modelrunner.cli.terminal.table import cell_width
from modelrunner.events import (
    Advanced,
    Event,
    Finished,
    Listener,
    Planned,
    Retrying,
    Skipped,
    Started,
    Unpacking,
    Verified,
    Waiting,
)
from modelrunner.text import sanitize_line
from modelrunner.units import format_duration, format_share, format_size

_REDRAWN_S = 0.1
_WIDEST, _NARROWEST = 40, 10
_LABEL = 40
_COLOR, _DIM, _PLAIN = "\x1b[36m", "\x1b[2m", "\x1b[0m"


@contextmanager
def bar(console: Console, *, verb: str = "pulling", models: int = 1) -> Iterator[Listener]:
    """Show the transfer of a number of models as a bar while the block runs."""
    try:
        yield _BarListener(console, verb, models)
    finally:
        console.line.erase()


class _BarListener:
    def __init__(
        self,
        console: Console,
        verb: str,
        models: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._verb = verb
        self._models = models
        self._clock = clock
        self._tally = Tally(clock)
        self._label = verb
        self._drawn_at = float("-inf")

    def __call__(self, event: Event) -> None:
        self._tally.on_event(event)
        match event:
            case Planned():
                self._say(f"{self._verb} {event.reference}: {plan_text(event)}")
                self._label = self._named(event.reference)
                self._draw()
            case Waiting():
                self._say(waiting_text(event))
            case Unpacking():
                self._say(unpacking_text(event))
            case Retrying():
                self._say(retry_text(event))
            case Advanced() | Started() | Verified() | Skipped():
                if self._clock() - self._drawn_at >= _REDRAWN_S:
                    self._draw()
            case Finished():
                self._label = self._named(event.reference)
                self._draw()
            case _:
                assert_never(event)

    def _named(self, reference: str) -> str:
        if self._models > 1:
            return f"{self._verb}: {self._tally.finished} of {self._models} models done"
        return sanitize_line(f"{self._verb} {reference}", _LABEL)

    def _draw(self) -> None:
        self._drawn_at = self._clock()
        tally, line = self._tally, self._console.line
        total = max(tally.total, 1)
        share = min(1.0, tally.done / total) if tally.total else 1.0
        parts = [format_share(tally.done, tally.total)]
        if tally.speed:
            parts.append(f"{format_size(round(tally.speed))}/s")
        if tally.speed and tally.remaining_s:
            parts.append(f"{format_duration(tally.remaining_s)} left")
        label, width = self._label, line.width
        # the least useful goes first where the terminal is narrow
        while len(parts) > 1 and _taken(label, parts) + _NARROWEST > width:
            parts.pop()
        if _taken(label, parts) + _NARROWEST > width:
            label = self._verb
        room = width - _taken(label, parts)
        if room < _NARROWEST:
            line.show("  ".join((label, *parts))[:width])
            return
        cells = min(room, _WIDEST)
        done, rest = "━" * int(cells * share), "─" * (cells - int(cells * share))
        styled = f"{_COLOR}{done}{_PLAIN}{_DIM}{rest}{_PLAIN}" if self._console.colour else None
        line.show(
            "  ".join((label, done + rest, *parts)),
            "  ".join((label, styled, *parts)) if styled else None,
        )

    def _say(self, text: str) -> None:
        self._console.note(sanitize_line(text))


def _taken(label: str, parts: list[str]) -> int:
    """Return the columns of a line besides the bar."""
    return cell_width(label) + 2 + sum(2 + len(part) for part in parts)
