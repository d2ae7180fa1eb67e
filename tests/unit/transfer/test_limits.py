"""Bytes a second, and how many connections."""

import pytest

from modelrunner.transfer.limits import MOST_CONNECTIONS, CutLength, Growth, Throttle
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


def grow(speed, seconds=20.0, most=None, ample=lambda _count: False):
    """How many connections there are in the end, where each gives `speed(n)` bytes a second."""
    return course(speed, seconds, most, ample)[-1]


def course(speed, seconds=20.0, most=None, ample=lambda _count: False):
    """How many connections there are from time to time."""
    growth, now, done, found = Growth(most), 0.0, 0, [1]
    while now < seconds:
        growth.observe(now, done, ample=ample(growth.wanted))
        if growth.wanted != found[-1]:
            found.append(growth.wanted)
        now += 0.02
        done += int(speed(growth.wanted) * 0.02)
    return found


def test_slow_connection_is_joined_by_all_others_at_once():
    assert course(lambda count: 20e6 * count) == [1, MOST_CONNECTIONS]


def test_connection_of_which_more_comes_than_is_taken_stays_alone():
    assert course(lambda _count: 1e9, ample=lambda _count: True) == [1]
    assert course(lambda _count: 50e6, ample=lambda _count: True) == [1]


def test_fast_connection_is_joined_by_a_few_and_then_by_all_while_that_is_faster():
    assert course(lambda count: 200e6 * count) == [1, 4, MOST_CONNECTIONS]


def test_few_that_make_nothing_faster_are_given_up():
    assert course(lambda _count: 400e6) == [1, 4, 1]


def test_connection_that_turns_slow_is_joined_by_all_others():
    growth = Growth(None)
    for step in range(20):
        growth.observe(step * 0.05, step * 50_000_000, ample=True)
    assert growth.wanted == 1
    for step in range(20, 30):
        growth.observe(step * 0.05, 950_000_000 + (step - 19) * 1_000_000)
    assert growth.wanted == MOST_CONNECTIONS


def test_one_is_left_where_more_comes_than_all_of_them_take():
    found = course(lambda _count: 100e6, ample=lambda count: count == MOST_CONNECTIONS)
    # and it is not tried again where one alone is slower after all
    assert found == [1, MOST_CONNECTIONS, 1, MOST_CONNECTIONS]


@pytest.mark.parametrize("most", [1, 3, 16])
def test_no_more_than_allowed_are_used(most):
    assert grow(lambda count: 1_000_000 * count, most=most) == most


def test_no_more_than_the_most_are_used():
    assert grow(lambda _count: 100, most=100) == MOST_CONNECTIONS


def test_silent_connection_is_joined_by_a_few():
    growth = Growth(None)
    found = []
    for step in range(60):
        growth.observe(step / 100, 0)
        found.append(growth.wanted)
    assert found[20] == 1
    assert found[-1] == 4


@pytest.mark.parametrize(("distant", "wanted"), [(False, 1), (True, MOST_CONNECTIONS)])
def test_server_that_is_far_away_gets_all_connections_after_few_reads(distant, wanted):
    growth = Growth(None)
    growth.observe(0.01, 65_536, 1, blocks=1, distant=distant)
    growth.observe(0.025, 200_000, 1, blocks=2, distant=distant)
    assert growth.wanted == wanted


MIB = 1024 * 1024


def test_answers_that_end_at_one_length_twice_are_requested_with_that_length():
    cut = CutLength()

    cut.note(MIB, 64 * MIB)
    assert cut.bytes is None
    cut.note(MIB - 1000, 63 * MIB)

    assert cut.bytes == MIB - 1000


def test_answers_that_end_anywhere_are_requested_whole():
    cut = CutLength()

    for came in (30 * MIB, 15 * MIB, 8 * MIB, 4 * MIB):
        cut.note(came, 2 * came)

    assert cut.bytes is None


def test_answers_that_bring_little_are_not_requested_one_by_one():
    cut = CutLength()

    for _ in range(4):
        cut.note(50_000, MIB)

    assert cut.bytes is None


def test_more_is_requested_ever_more_rarely_where_answers_are_still_cut():
    cut, looks = CutLength(), []

    for number in range(1000):
        asked = cut.ask(64 * MIB)
        if asked > MIB:
            looks.append(number)
        cut.note(min(asked, MIB), asked)

    assert looks[:2] == [0, 1]
    assert len(looks) < 10
    assert cut.bytes == MIB


def test_length_grows_where_answers_are_cut_no_more():
    cut = CutLength()
    cut.note(MIB, 64 * MIB)
    cut.note(MIB, 64 * MIB)

    for _ in range(100):
        asked = cut.ask(64 * MIB)
        cut.note(asked, asked)

    assert cut.bytes >= 32 * MIB


def test_only_one_of_many_requests_tries_whether_more_comes_by_now():
    cut = CutLength()
    cut.note(MIB, 64 * MIB)
    cut.note(MIB, 64 * MIB)
    for _ in range(16):
        cut.note(MIB, MIB)

    assert [cut.ask(64 * MIB) for _ in range(16)] == [2 * MIB] + 15 * [MIB]

    cut.note(MIB, 2 * MIB)
    assert cut.bytes == MIB
    for _ in range(32):
        assert cut.ask(64 * MIB) == MIB
        cut.note(MIB, MIB)
    assert cut.ask(64 * MIB) == 2 * MIB


def test_what_is_short_anyway_tries_nothing():
    cut = CutLength()
    cut.note(MIB, 64 * MIB)
    cut.note(MIB, 64 * MIB)
    for _ in range(16):
        cut.note(1000, 1000)

    assert cut.ask(MIB) == MIB
    assert cut.ask(3 * MIB) == 2 * MIB


def test_length_is_forgotten_where_it_was_none():
    cut = CutLength()
    cut.note(4 * MIB, 64 * MIB)
    cut.note(4 * MIB, 60 * MIB)
    assert cut.bytes == 4 * MIB

    cut.note(MIB, 4 * MIB)

    assert cut.bytes is None


def test_one_connection_stays_alone_where_that_is_enough():
    growth = Growth(None)
    growth.stay_with_one()
    for tenth in range(20):
        growth.observe(tenth / 10, tenth * 1000, 1, blocks=100)
    assert (growth.wanted, growth.expected, growth.settled) == (1, 1, True)
