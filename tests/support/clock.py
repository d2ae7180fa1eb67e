"""A clock that stands still unless it is told otherwise; sleeping on it takes no time."""


class Clock:
    """`clock()` is the time, `clock.sleep` moves it; `slept` remembers every sleep."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
