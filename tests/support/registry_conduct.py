"""How one body travels: how fast, where it rests, where it ends too early."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.support.registry_fault import Fault, HangUp
from tests.support.registry_messages import SLICE


@dataclass(slots=True)
class Conduct:
    """How one body travels: how fast, where it rests, where it ends too early."""

    pause: Callable[[float], None]
    rate: float | None = None
    stall: Fault | None = None
    stall_at: int = -1
    stall_seconds: float = 0
    cut: Fault | None = None
    cut_at: int = -1

    def slices(self, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        """The pieces, divided where something is to happen.

        Raises:
            HangUp: Here the body is cut.
        """
        position = 0
        for piece in pieces:
            rest = piece
            while rest:
                self._reach(position)
                part = rest[: self._stride(position)]
                yield part
                if self.rate is not None:
                    self.pause(len(part) / self.rate)
                position += len(part)
                rest = rest[len(part) :]

    def _reach(self, position: int) -> None:
        if self.stall and position == self.stall_at:
            self.stall.strike()
            self.pause(self.stall_seconds)
        if self.cut and position == self.cut_at:
            self.cut.strike()
            raise HangUp(reset=False)

    def _stride(self, position: int) -> int:
        stops = [stop - position for stop in (self.stall_at, self.cut_at) if stop > position]
        step = SLICE if self.rate is None else max(1, int(self.rate / 50))
        return min([*stops, step])
