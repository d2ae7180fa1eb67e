"""A transfer as a bar on a terminal, drawn by Rich."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, assert_never

from modelrunner.cli.console import Console
from modelrunner.cli.progress_tally import (
    Tally,
    plan_text,
    retry_text,
    skipped_text,
    waiting_text,
)
from modelrunner.events import (
    Advanced,
    Event,
    Finished,
    Listener,
    Planned,
    Retrying,
    Skipped,
    Started,
    Verified,
    Waiting,
)
from modelrunner.text import sanitize_line
from modelrunner.units import format_size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def bar(console: Console, *, verb: str = "pulling") -> Iterator[Listener]:
    """One bar for all blobs, with total, speed and time to go, drawn by Rich."""
    from rich.console import Console as RichConsole
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        # not the column that Rich has for it: that one counts in MB, beside MiB
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
    )
    terminal = RichConsole(file=console.err, force_terminal=True, no_color=not console.colour)
    with Progress(*columns, console=terminal, transient=False) as drawn:
        yield _BarListener(drawn, verb)


class _BarListener:
    def __init__(self, drawn: "Progress", verb: str) -> None:
        self._drawn = drawn
        self._verb = verb
        self._tally = Tally(time.monotonic)
        self._task: TaskID | None = None

    def __call__(self, event: Event) -> None:
        self._tally.hear(event)
        match event:
            case Planned():
                self._say(f"{self._verb} {event.reference}: {plan_text(event)}")
                if self._task is None:
                    self._task = self._drawn.add_task(self._verb, total=None, speed="")
                total = self._tally.total or 1
                self._drawn.update(self._task, total=total, completed=self._tally.done)
            case Skipped():
                self._say(skipped_text(event))
            case Waiting():
                self._say(waiting_text(event))
            case Retrying():
                self._say(retry_text(event))
            case Started():
                self._update(sanitize_line(event.title, 40))
            case Advanced() | Verified():
                self._update(None)
            case Finished():
                self._update("done")
            case _:
                assert_never(event)

    def _update(self, description: str | None) -> None:
        if self._task is None:
            return
        speed = f"{format_size(round(self._tally.speed))}/s" if self._tally.speed else ""
        self._drawn.update(
            self._task,
            completed=self._tally.done,
            speed=speed,
            description=None if description is None else description.replace("[", "\\["),
        )

    def _say(self, text: str) -> None:
        self._drawn.console.print(sanitize_line(text), markup=False, highlight=False)
