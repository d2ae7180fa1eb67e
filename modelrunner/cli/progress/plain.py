"""Progress as lines in a log: few of them, whatever the duration and the number of errors.

There is a line every ten seconds or ten percent, whichever comes later. The first errors are
printed at once, later ones ever more rarely.
"""

import time
from collections.abc import Callable
from typing import assert_never

from modelrunner.cli.progress.tally import (
    Tally,
    plan_text,
    retry_text,
    unpacking_text,
    waiting_text,
)
from modelrunner.cli.terminal.console import Console
from modelrunner.events import (
    Advanced,
    Event,
    Finished,
    Planned,
    Retrying,
    Skipped,
    Started,
    Unpacking,
    Verified,
    Waiting,
)
from modelrunner.text import sanitize_line

_LINE_SECONDS = 10.0
_LINE_PERCENT = 10.0
_TROUBLES = 4
"""Number of errors that are printed at once."""
_TROUBLE_S = 10.0
"""Seconds to the next error that is printed, doubled each time."""


class PlainListener:
    """Prints lines for a log."""

    def __init__(
        self,
        console: Console,
        *,
        verb: str = "pulling",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._verb = verb
        self._tally = Tally(clock)
        self._clock = clock
        self._last = (clock(), 0.0)
        self._troubles = 0
        self._trouble_at = clock()

    def __call__(self, event: Event) -> None:
        """Handle an event."""
        self._tally.on_event(event)
        match event:
            case Planned():
                self._say(f"{self._verb} {event.reference}: {plan_text(event)}")
                self._last = (self._clock(), self._tally.percent)
            case Waiting():
                self._say(waiting_text(event))
            case Unpacking():
                self._say(unpacking_text(event))
            case Retrying():
                self._retry(event)
            case Advanced():
                self._advance()
            case Started() | Skipped() | Verified() | Finished():
                pass
            case _:
                assert_never(event)

    def _advance(self) -> None:
        now, percent = self._clock(), self._tally.percent
        if now - self._last[0] >= _LINE_SECONDS and percent - self._last[1] >= _LINE_PERCENT:
            self._last = (now, percent)
            self._say(self._tally.line())

    def _retry(self, event: Retrying) -> None:
        now = self._clock()
        beyond = self._troubles - _TROUBLES
        if beyond >= 0 and now - self._trouble_at < _TROUBLE_S * 2**beyond:
            return
        self._troubles += 1
        self._trouble_at = now
        self._say(retry_text(event))

    def _say(self, text: str) -> None:
        self._console.note(sanitize_line(text))
