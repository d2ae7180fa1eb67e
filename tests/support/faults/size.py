"""How many faults are tried: a few in `make test`, as many as is asked for in `make faults`."""

import os
import random
from collections.abc import Sequence
from typing import TypeVar

Case = TypeVar("Case")

SIZE = float(os.environ.get("MODELRUNNER_FAULTS", "0"))
"""0 is a few seconds of each kind, 1 about ten minutes in all on two processors."""
SEED = int(os.environ.get("MODELRUNNER_FAULTS_SEED", "20251128"))


def sample(cases: Sequence[Case], chance: random.Random, *, least: int, part: float) -> list[Case]:
    """As many of some cases as the size says: a part of them at size 1, but `least` in any case."""
    number = max(least, round(SIZE * part * len(cases)))
    return chance.sample(cases, min(number, len(cases)))


def workers() -> int:
    """How many work at once: all processors where there is much to do."""
    return (os.cpu_count() or 1) if SIZE else 1


def some(cases: Sequence[Case], chance: random.Random) -> list[Case]:
    """All of some cases, but a third where little time is to be spent."""
    return list(cases) if SIZE else chance.sample(cases, len(cases) // 3)


def examples(least: int, full: int) -> int:
    """How many examples Hypothesis is to draw."""
    return max(least, round(SIZE * full))
