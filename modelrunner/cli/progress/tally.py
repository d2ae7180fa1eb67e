"""The state of a transfer, as numbers and in words: shared by all styles."""

from collections.abc import Callable
from typing import assert_never

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
from modelrunner.units import format_duration, format_size

_SPEED_WINDOW_S = 5.0
_SAMPLE_S = 0.1

_SHORT_S = 0.05


class Tally:
    """The state of a transfer, over all blobs and models."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.total = self.settled = self.planned = self.finished = 0
        self.moving: dict[str, int] = {}
        self.awaited: set[str] = set()
        self.samples: list[tuple[float, int]] = []

    def on_event(self, event: Event) -> None:
        """Handle an event."""
        match event:
            case Planned():
                self.total += event.total_bytes
                self.planned += 1
                self._jump(event.present_bytes)
                self.settled += event.present_bytes
                self._sample()
            case Started():
                self._jump(event.resumed - self.moving.get(event.digest, 0))
                self.moving[event.digest] = event.resumed
                self.awaited.discard(event.digest)
            case Advanced():
                self.moving[event.digest] = event.done
                self._sample()
            case Waiting():
                self.awaited.add(event.digest)
            case Skipped():
                if event.digest in self.awaited:
                    # somebody else has brought it, after it was planned as missing
                    self.awaited.discard(event.digest)
                    self._jump(event.size)
                    self.settled += event.size
            case Finished():
                self.finished += 1
                if self.finished == self.planned:
                    # what was planned as missing and found here is there too
                    self.settled = self.total - sum(self.moving.values())
            case Retrying() | Verified() | Unpacking():
                pass
            case _:
                assert_never(event)

    @property
    def done(self) -> int:
        """Bytes present."""
        return self.settled + sum(self.moving.values())

    @property
    def percent(self) -> float:
        """Bytes present in percent."""
        return 100.0 if self.total == 0 else 100.0 * self.done / self.total

    @property
    def speed(self) -> float:
        """Bytes per second, over the last few seconds; 0 as long as that is a guess."""
        if not self.samples:
            return 0.0
        begun, before = self.samples[0]
        # up to now: the last sample may be of before most of it came
        passed = self.clock() - begun
        return max(0, self.done - before) / passed if passed >= _SAMPLE_S else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Seconds left at this speed; None if there is no progress."""
        speed = self.speed
        return (self.total - self.done) / speed if speed else None

    def _jump(self, size: int) -> None:
        """Count bytes that were not transferred now: they do not count as speed."""
        self.samples = [(when, done + size) for when, done in self.samples]

    def _sample(self) -> None:
        now = self.clock()
        if self.samples and now - self.samples[-1][0] < _SAMPLE_S:
            return
        self.samples.append((now, self.done))
        while len(self.samples) > 2 and now - self.samples[0][0] > _SPEED_WINDOW_S:  # noqa: PLR2004
            self.samples.pop(0)

    def line(self) -> str:
        """Return the state in one line."""
        left = self.remaining_s
        eta = f", {format_duration(left)} left" if left is not None else ""
        return (
            f"{self.percent:3.0f} %  {format_size(self.done)} of {format_size(self.total)}"
            f"  {format_size(round(self.speed))}/s{eta}"
        )


def plan_text(event: Planned) -> str:
    """Return the size of a model, and how much of it is present."""
    parts = [format_size(event.total_bytes)]
    if event.present_bytes:
        parts.append(f"{format_size(event.present_bytes)} already present")
    if event.resumed_bytes:
        parts.append(f"resuming, {format_size(event.resumed_bytes)} kept from an earlier attempt")
    return ", ".join(parts)


def unpacking_text(event: Unpacking) -> str:
    """Return what is unpacked."""
    return f"unpacking {event.reference}: {format_size(event.size)}"


def retry_text(event: Retrying) -> str:
    """Return an error, and when the retry is."""
    if event.delay <= 0:
        return f"{event.reason}; restarting from the beginning"
    if event.delay < _SHORT_S:
        return f"{event.reason}; retrying now"
    return f"{event.reason}; retrying in {event.delay:.1f} s"


def waiting_text(event: Waiting) -> str:
    """Return what the transfer waits for."""
    return f"{event.title}: already being downloaded, waiting"
