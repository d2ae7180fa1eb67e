"""How often, and how long to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.errors import (
    AccessError,
    RateLimitedError,
    RegistryAnswerError,
    RegistryUnavailableError,
)
from modelrunner.registry.http.retry import Backoff
from tests.support.clock import Clock

DOWN = RegistryUnavailableError("down")


def patient(clock, **more):
    return Backoff(sleep=clock.sleep, uniform=max, **more)


def failing(times, error=DOWN):
    left = [error] * times

    def call():
        if left:
            raise left.pop()
        return "done"

    return call


def test_what_passes_is_waited_for():
    clock = Clock()
    assert patient(clock).run(failing(4)) == "done"
    assert clock.slept == [1, 2, 4, 8]


def test_waits_have_a_limit():
    clock = Clock()
    patient(clock, attempts=12).run(failing(11))
    assert max(clock.slept) == 30


def test_last_attempts_error_is_the_answer():
    clock = Clock()
    with pytest.raises(RegistryUnavailableError):
        patient(clock).run(failing(5))
    assert len(clock.slept) == 4


def test_what_does_not_pass_is_not_tried_again():
    clock = Clock()
    for error in (RegistryAnswerError("no"), AccessError("no")):
        with pytest.raises(type(error)):
            patient(clock).run(failing(1, error))
    assert clock.slept == []


def test_registry_that_names_a_time_is_obeyed():
    clock = Clock()
    patient(clock).run(failing(1, RateLimitedError("slowly", retry_after_s=17)))
    assert clock.slept == [17]


def test_registry_that_asks_for_too_long_is_given_up():
    clock = Clock()
    with pytest.raises(RateLimitedError):
        patient(clock).run(failing(1, RateLimitedError("slowly", retry_after_s=3600)))
    assert clock.slept == []


@given(st.integers(1, 4))
def test_wait_is_jittered_but_never_nothing(attempt):
    backoff = Backoff()
    delays = [backoff.delay(attempt, DOWN) for _ in range(20)]
    assert all(delay is not None and 0.25 <= delay <= 2**attempt / 2 for delay in delays)
    assert len(set(delays)) > 1
