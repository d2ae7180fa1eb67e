"""Bytes a second, and how many connections."""

import pytest

from modelrunner.transfer.limits import MOST_CONNECTIONS, Growth, Throttle
from tests.support.clock import Clock


@pytest.mark.parametrize("block", [1000, 50_000, 1_000_000])
def test_rate_is_kept_within_five_percent(block):
    clock = Clock()
    throttle = Throttle(1_000_000, clock, clock.sleep)
    begun = clock.now
    for _ in range(20_000_000 // block):
        throttle.take(block)
    assert clock.now - begun == pytest.approx(20, rel=0.05)


def test_time_that_was_not_used_is_not_saved_up():
    clock = Clock()
    throttle = Throttle(1_000_000, clock, clock.sleep)
    clock.now += 60
    begun = clock.now
    throttle.take(1_000_000)
    assert clock.now - begun > 0.7


def test_no_rate_is_no_wait():
    clock = Clock()
    throttle = Throttle(None, clock, clock.sleep)
    throttle.take(10**12)
    assert clock.slept == []
    assert throttle.block is None


def test_blocks_are_small_where_the_rate_is_low():
    assert Throttle(1_000_000).block == 25_000
    assert Throttle(10).block == 4096


def grow(speed, seconds=20.0, fixed=None):
    """How many connections there are in the end, where each gives `speed(n)` bytes a second."""
    growth, now, done = Growth(fixed), 0.0, 0
    while now < seconds:
        growth.observe(now, done)
        now += 0.05
        done += int(speed(growth.wanted) * 0.05)
    return growth.wanted


def test_connections_grow_while_that_makes_it_faster():
    assert grow(lambda count: 1_000_000 * count) == MOST_CONNECTIONS


def test_connections_stop_growing_where_it_makes_nothing_faster():
    assert grow(lambda _count: 1_000_000) < MOST_CONNECTIONS


@pytest.mark.parametrize("fixed", [1, 3, 16])
def test_fixed_number_stays(fixed):
    assert grow(lambda count: 1_000_000 * count, fixed=fixed) == fixed


def test_no_more_than_the_most_are_used():
    assert grow(lambda _count: 1, fixed=100) == MOST_CONNECTIONS


def test_nothing_grows_before_the_first_byte():
    growth = Growth(None)
    first = growth.wanted
    for step in range(100):
        growth.observe(step, 0)
    assert growth.wanted == first
