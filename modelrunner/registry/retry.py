"""Trying again: which errors, how often, how long to wait.

What may pass is told by type: `TransferError.retryable`. Waits grow exponentially with full
jitter, so that many clients do not come back at once; a registry that names a time (`Retry-After`)
is obeyed, up to a limit.
"""

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from modelrunner.errors import DeadlineError, TransferError

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How patient to be; `deadline` is on the monotonic clock. The functions are for tests."""

    attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 30.0
    longest_retry_after_s: float = 120.0
    deadline: float | None = None
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    uniform: Callable[[float, float], float] = field(default=random.uniform, repr=False)

    def delay(self, attempt: int, error: TransferError) -> float | None:
        """Seconds to wait after the `attempt`-th failure (from 1), None to give up."""
        if not error.retryable or attempt >= self.attempts:
            return None
        asked = error.facts.get("retry_after_s")
        if isinstance(asked, int | float):
            return float(asked) if asked <= self.longest_retry_after_s else None
        # full jitter, but never so little that a refused connection is asked again at once
        return self.uniform(self.base_s / 2, min(self.cap_s, self.base_s * 2**attempt))

    def remaining_s(self) -> float:
        """Seconds until the deadline; endless without one.

        Raises:
            DeadlineError: It is over.
        """
        if self.deadline is None:
            return math.inf
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DeadlineError(
                "the time that --timeout allows is over",
                hint="what arrived is kept: run the same command to go on",
            )
        return left

    def run(self, call: Callable[[], Result]) -> Result:
        """Calls until it works, or until the last attempt's error is passed on."""
        attempt = 0
        while True:
            try:
                return call()
            except TransferError as exc:
                # where the time is over, that is what to tell
                left = self.remaining_s()
                attempt += 1
                delay = self.delay(attempt, exc)
                if delay is None:
                    raise
                _log.info("attempt %d failed (%s), next in %.1f s", attempt, exc, delay)
                self.sleep(min(delay, left))


NO_RETRY = Backoff(attempts=1)
