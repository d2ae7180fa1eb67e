"""Progress as JSON, one object a line, for programs that display it themselves."""

import time
from collections.abc import Callable
from typing import assert_never

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

_JSON_INTERVAL = 0.1


class JsonListener:
    """Prints one JSON object a line, at most ten a second."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._last = float("-inf")

    def __call__(self, event: Event) -> None:  # noqa: C901 - a case for each event
        """Handle an event."""
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
            case Unpacking():
                self._write("unpacking", None, event.size, None, reference=event.reference)
            case Verified():
                self._write("verified", event.digest, event.size, event.size)
            case Retrying():
                self._write(
                    "retrying",
                    event.digest or None,
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
        self._console.emit_message(value)
        self._console.err.flush()
