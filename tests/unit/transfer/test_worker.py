"""How much a connection reads at once."""

from threading import Event
from types import SimpleNamespace

import pytest

from modelrunner.transfer.limits import Throttle
from modelrunner.transfer.worker import Worker, fitting_block, fitting_read, more_comes_than_is_read

KIB, MIB = 1024, 1024 * 1024


def sizes(times, *, took, enough, alone, block=64 * KIB):
    found = []
    for _ in range(times):
        block = fitting_block(block, block, took, enough=enough, alone=alone)
        found.append(block)
    return found


@pytest.mark.parametrize(("took", "enough"), [(0.001, False), (1.0, True)])
def test_one_connection_on_a_fast_line_reads_ever_more(took, enough):
    found = sizes(8, took=took, enough=enough, alone=True)
    assert found == [128 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB, 4 * MIB, 4 * MIB, 4 * MIB]


def test_several_connections_hold_no_more_than_a_killed_process_may_lose():
    assert sizes(8, took=0.001, enough=True, alone=False)[-1] == MIB
    # those that came when there was one go on with less
    assert fitting_block(4 * MIB, 4 * MIB, 0.05, enough=False, alone=False) == MIB


def test_a_slow_line_is_read_in_small_blocks():
    assert sizes(4, took=1.0, enough=False, alone=True) == [32 * KIB, 16 * KIB, 16 * KIB, 16 * KIB]
    assert fitting_block(4 * MIB, 4 * MIB, 1.0, enough=False, alone=True) == 2 * MIB


def test_a_line_in_between_changes_nothing():
    assert fitting_block(256 * KIB, 256 * KIB, 0.05, enough=False, alone=True) == 256 * KIB
    assert fitting_block(256 * KIB, 100 * KIB, 0.001, enough=True, alone=True) == 256 * KIB


def test_connections_that_have_ended_say_nothing_of_what_comes_now():
    shared = SimpleNamespace(throttle=Throttle(None), open_source=None)
    ended, open_ = (Worker(shared, number) for number in range(2))
    go_on = Event()
    open_.run = go_on.wait
    open_.start()
    try:
        for worker, ample in ((ended, 1.0), (open_, 0.0)):
            worker.flowing, worker.ample = True, ample
        assert not more_comes_than_is_read([ended, open_])
        open_.ample = 0.9
        assert more_comes_than_is_read([ended, open_])
    finally:
        go_on.set()
        open_.join()


@pytest.mark.parametrize(
    ("before", "read"),
    [(8 * MIB, MIB), (300 * KIB, 300 * KIB), (5 * KIB, 64 * KIB), (0, MIB), (-MIB, MIB)],
)
def test_a_read_ends_where_the_next_run_is_to_be_requested(before, read):
    assert fitting_read(MIB, before) == read
