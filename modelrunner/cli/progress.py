"""Transfers as people see them: a bar on a terminal, few lines in a log, JSON for programs.

Each class is a `Listener`. In a log there is a line every ten seconds or ten percent, whichever
comes later, so that hours of waiting stay readable.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from modelrunner.cli.console import Console, ProgressMode
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
    ignore,
)
from modelrunner.text import sanitize_line
from modelrunner.units import format_duration, format_size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_SECONDS = 10.0
_LINE_PERCENT = 10.0
_JSON_INTERVAL = 0.1
_SPEED_WINDOW_S = 5.0


@contextmanager
def progress(console: Console, *, pushing: bool = False) -> Iterator[Listener]:
    """The block in which a transfer is shown, in the form that the console asks for."""
    mode = console.progress
    if mode is ProgressMode.JSON:
        yield JsonListener(console)
    elif mode is ProgressMode.NONE or ((console.quiet or console.json) and mode is mode.AUTO):
        yield ignore
    elif console.terminal if mode is ProgressMode.BAR else mode is mode.AUTO and console.bars:
        with bar(console, pushing=pushing) as listener:
            yield listener
    else:
        yield PlainListener(console, pushing=pushing)


@dataclass(slots=True)
class Tally:
    """How far a transfer is, over all its blobs."""

    clock: Callable[[], float]
    total: int = 0
    settled: int = 0
    resumed: int = 0
    moving: dict[str, int] = field(default_factory=dict)
    samples: list[tuple[float, int]] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Takes an event in."""
        match event:
            case Planned():
                self.total = event.total_bytes
                self.resumed = event.resumed_bytes
                self.settled = event.present_bytes
                self.moving.clear()
                self.samples = [(self.clock(), self.done)]
            case Started():
                jump = event.resumed - self.moving.get(event.digest, 0)
                self.moving[event.digest] = event.resumed
                # what an earlier try left has not come now: it is no speed
                self.samples = [(when, done + jump) for when, done in self.samples]
            case Advanced():
                self.moving[event.digest] = event.done
                self._sample()
            case Skipped() | Waiting() | Retrying() | Verified() | Finished():
                pass
            case _:
                assert_never(event)

    @property
    def done(self) -> int:
        """Bytes that are here."""
        return self.settled + sum(self.moving.values())

    @property
    def percent(self) -> float:
        """How much is here, of a hundred."""
        return 100.0 if self.total == 0 else 100.0 * self.done / self.total

    @property
    def speed(self) -> float:
        """Bytes a second, over the last few seconds."""
        if len(self.samples) < 2:  # noqa: PLR2004
            return 0.0
        (begun, before), (now, after) = self.samples[0], self.samples[-1]
        return max(0, after - before) / max(now - begun, 1e-6)

    @property
    def remaining_s(self) -> float | None:
        """Seconds to go at this speed, None where nothing moves."""
        return (self.total - self.done) / self.speed if self.speed else None

    def _sample(self) -> None:
        now = self.clock()
        if self.samples and now - self.samples[-1][0] < _SPEED_WINDOW_S / 50:
            return
        self.samples.append((now, self.done))
        while len(self.samples) > 2 and now - self.samples[0][0] > _SPEED_WINDOW_S:  # noqa: PLR2004
            self.samples.pop(0)

    def line(self) -> str:
        """One line that says it all."""
        left = self.remaining_s
        eta = f", {format_duration(left)} left" if left is not None else ""
        return (
            f"{self.percent:3.0f} %  {format_size(self.done)} of {format_size(self.total)}"
            f"  {format_size(round(self.speed))}/s{eta}"
        )


class PlainListener:
    """Lines for a log."""

    def __init__(
        self,
        console: Console,
        *,
        pushing: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._verb = "pushing" if pushing else "pulling"
        self._tally = Tally(clock)
        self._clock = clock
        self._last = (clock(), 0.0)

    def __call__(self, event: Event) -> None:
        """Hears an event."""
        self._tally.hear(event)
        match event:
            case Planned():
                self._say(f"{self._verb} {event.reference}: {_plan(event)}")
                self._last = (self._clock(), self._tally.percent)
            case Skipped():
                self._say(f"{event.title}: {format_size(event.size)}, already there")
            case Waiting():
                self._say(f"{event.title}: another process is fetching it, waiting for it")
            case Retrying():
                self._say(_retry(event))
            case Advanced():
                self._advance()
            case Started() | Verified() | Finished():
                pass
            case _:
                assert_never(event)

    def _advance(self) -> None:
        now, percent = self._clock(), self._tally.percent
        if now - self._last[0] >= _LINE_SECONDS and percent - self._last[1] >= _LINE_PERCENT:
            self._last = (now, percent)
            self._say(self._tally.line())

    def _say(self, text: str) -> None:
        self._console.err.write(f"{sanitize_line(text)}\n")
        self._console.err.flush()


class JsonListener:
    """One JSON object a line, at most ten a second."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._last = float("-inf")

    def __call__(self, event: Event) -> None:
        """Hears an event."""
        match event:
            case Advanced():
                if self._clock() - self._last < _JSON_INTERVAL:
                    return
                self._last = self._clock()
                self._write("advanced", event.digest, event.size, event.done)
            case Started():
                self._write("started", event.digest, event.size, event.resumed, title=event.title)
            case Skipped():
                self._write("skipped", event.digest, event.size, event.size, title=event.title)
            case Waiting():
                self._write("waiting", event.digest, None, None, title=event.title)
            case Verified():
                self._write("verified", event.digest, event.size, event.size)
            case Retrying():
                self._write(
                    "retrying",
                    event.digest,
                    None,
                    None,
                    reason=event.reason,
                    attempt=event.attempt,
                    delay_s=round(event.delay, 3),
                )
            case Finished():
                self._write(
                    "finished",
                    event.digest,
                    event.total_bytes,
                    event.total_bytes,
                    reference=event.reference,
                )
            case Planned():
                self._write(
                    "planned",
                    None,
                    event.total_bytes,
                    event.present_bytes + event.resumed_bytes,
                    reference=event.reference,
                    resumed_bytes=event.resumed_bytes,
                )
            case _:
                assert_never(event)

    def _write(
        self, name: str, digest: str | None, size: int | None, done: int | None, **more: object
    ) -> None:
        value = {"event": name, "digest": digest, "size_bytes": size, "done_bytes": done, **more}
        self._console.err.write(json.dumps(value) + "\n")
        self._console.err.flush()


@contextmanager
def bar(console: Console, *, pushing: bool = False) -> Iterator[Listener]:
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
        yield _BarListener(drawn, pushing=pushing)


class _BarListener:
    def __init__(self, drawn: "Progress", *, pushing: bool) -> None:
        self._drawn = drawn
        self._verb = "pushing" if pushing else "pulling"
        self._tally = Tally(time.monotonic)
        self._task: TaskID | None = None

    def __call__(self, event: Event) -> None:
        self._tally.hear(event)
        match event:
            case Planned():
                self._say(f"{self._verb} {event.reference}: {_plan(event)}")
                self._task = self._drawn.add_task(
                    self._verb, total=event.total_bytes or 1, speed=""
                )
                self._drawn.update(self._task, completed=self._tally.done)
            case Skipped():
                self._say(f"{event.title}: {format_size(event.size)}, already there")
            case Waiting():
                self._say(f"{event.title}: another process is fetching it, waiting for it")
            case Retrying():
                self._say(_retry(event))
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


def _plan(event: Planned) -> str:
    parts = [format_size(event.total_bytes)]
    if event.present_bytes:
        parts.append(f"{format_size(event.present_bytes)} already there")
    if event.resumed_bytes:
        parts.append(f"resuming, {format_size(event.resumed_bytes)} here from an earlier try")
    return ", ".join(parts)


def _retry(event: Retrying) -> str:
    if event.delay <= 0:
        return f"{event.reason}; once more from the start"
    return f"{event.reason}; trying again in {event.delay:.1f} s"
