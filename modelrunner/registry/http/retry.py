"""Trying again: which errors, how often, how long to wait.

What may pass is decided by type: `TransferError.retryable`. Waits grow exponentially with full
jitter, so that many clients do not come back at once; a registry that names a time (`Retry-After`)
is obeyed, up to a limit.
"""

import math
import time
from collections.abc import Callable
from typing import TypeVar

from modelrunner.errors import DeadlineError, TransferError
from modelrunner.frozen import field, frozen
from modelrunner.system.log import Log

Result = TypeVar("Result")
OnRetry = Callable[[TransferError, int, float], None]
_log = Log(__name__)


def _uniform(least: float, most: float) -> float:
    # nothing is waited for where all goes well
    import random

    return random.uniform(least, most)  # noqa: S311 - a wait


def _unheard(_error: TransferError, _attempt: int, _delay: float) -> None:
    pass


@frozen
class Backoff:
    """How patient to be.

    Attributes:
        attempts: Tries of one request, the first included.
        base_s: The first wait, about.
        cap_s: The longest wait.
        longest_retry_after_s: The longest wait that a registry may ask for.
        deadline: On the monotonic clock: when to give up.
        allowed_s: The seconds that the user has allowed until then, for messages.
        on_retry: Called before each wait: the error, the number of tries so far, the seconds.
        sleep: For tests.
        uniform: For tests.
    """

    attempts: int = 5
    base_s: float = 0.5
    cap_s: float = 30.0
    longest_retry_after_s: float = 120.0
    deadline: float | None = None
    allowed_s: float | None = None
    on_retry: OnRetry = field(default=_unheard, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    uniform: Callable[[float, float], float] = field(default=_uniform, repr=False)

    def delay(self, attempt: int, error: TransferError) -> float | None:
        """Seconds to wait after the `attempt`-th failure (from 1), None to give up."""
        if not error.retryable or attempt >= self.attempts:
            return None
        asked = error.retry_after_s
        if asked is not None:
            return asked if asked <= self.longest_retry_after_s else None
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
            raise self.timed_out()
        return left

    def timed_out(self, reason: str | None = None, *, kept: bool = False) -> DeadlineError:
        """The error for a deadline that is over.

        Args:
            reason: What went wrong until then, where something did.
            kept: Whether something was downloaded.
        """
        allowed = "" if self.allowed_s is None else f" after {self.allowed_s:g} s (--timeout)"
        again = "run the same command again" if kept else "try again later"
        return DeadlineError(
            f"timed out{allowed}" + (f": {reason}" if reason else ""),
            hint=f"{'the partial download is kept: ' if kept else ''}{again}, or allow more time",
        )

    def run(self, call: Callable[[], Result]) -> Result:
        """Calls until it works, or until the last attempt's error is passed on."""
        attempt = 0
        last: TransferError | None = None
        while True:
            try:
                return call()
            except TransferError as exc:
                if not isinstance(exc, DeadlineError):
                    last = exc
                if self.deadline is not None and self.deadline <= time.monotonic():
                    raise self.timed_out(None if last is None else last.message) from exc
                attempt += 1
                delay = self.delay(attempt, exc)
                if delay is None:
                    raise
                _log.info("attempt %d failed (%s), next in %.1f s", attempt, exc, delay)
                self.on_retry(exc, attempt, delay)
                self.sleep(min(delay, self.remaining_s()))


NO_RETRY = Backoff(attempts=1)
