"""Who brings which part: nothing is lost, nothing is done twice, everybody ends together."""

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.transfer.pieces import PIECE, Pieces, Run
from tests.support.waiting import wait_until


def read(pieces: Pieces, run: Run, count: int) -> None:
    """A connection reads some bytes and finishes the pieces that they complete."""
    run.reached += pieces.next_block(run, count)
    while run.first < run.end and run.reached >= pieces.span(run.first)[1]:
        pieces.finish(run, run.first)


def bring(pieces: Pieces, run: Run) -> None:
    read(pieces, run, pieces.size)


def test_pieces_cover_the_blob_without_a_gap():
    pieces = Pieces(25, piece=10)
    assert [pieces.span(index) for index in range(pieces.count)] == [(0, 10), (10, 20), (20, 25)]


def test_empty_blob_is_complete():
    pieces = Pieces(0, piece=10)
    assert pieces.complete
    assert pieces.claim(4, 0.0) is None
    assert pieces.steal(0.0) is None
    assert pieces.done_bytes() == pieces.front_bytes() == 0


def test_connections_share_what_is_to_come():
    pieces = Pieces(80, piece=10)
    runs = [pieces.claim(4, 0.0) for _ in range(4)]
    assert [(run.first, run.end) for run in runs if run] == [(0, 2), (2, 3), (3, 4), (4, 5)]


def test_first_runs_end_one_after_the_other_from_the_front_on():
    pieces = Pieces(2000 * PIECE)
    runs = [pieces.claim(8, 0.0) for _ in range(8)]
    assert [run.end - run.first for run in runs if run] == [75, 85, 94, 102, 107, 111, 113, 113]


def test_one_connection_asks_once_for_all_that_is_to_come():
    size, piece = 64 * 1024 * 1024, 512 * 1024
    alone = Pieces(size, [], piece).claim(1, 0.0, meanwhile=piece // 100)
    assert (alone.first, alone.end) == (0, 128)
    # others want work too
    shared = Pieces(size, [], piece).claim(2, 0.0, meanwhile=piece // 100)
    assert (shared.first, shared.end) == (0, 16)


def test_what_is_claimed_is_worth_the_wait_for_its_answer():
    pieces = Pieces(100 * PIECE, range(64))
    shares = [pieces.claim(16, 0.0, meanwhile=PIECE) for _ in range(2)]
    assert [run.end - run.first for run in shares] == [4, 4]


def test_pieces_that_are_here_are_not_brought_again():
    pieces = Pieces(50, [0, 2, 3, 99, -1], piece=10)
    assert pieces.done_bytes() == 30
    assert pieces.front_bytes() == 10
    run = pieces.claim(1, 0.0)
    assert run is not None
    assert (run.first, run.end) == (1, 2)


def test_what_a_broken_connection_leaves_is_taken_up_by_the_next():
    pieces = Pieces(40, piece=10)
    run = pieces.claim(1, 0.0)
    read(pieces, run, 15)
    pieces.give_back(run, 1.0)
    run = pieces.claim(1, 1.0)
    assert (run.first, run.end, run.reached) == (1, 4, 15)
    assert pieces.done_bytes() == 15


def test_idle_connection_takes_the_far_half_of_the_longest_run():
    pieces = Pieces(100, piece=10)
    slow = pieces.claim(1, 0.0)
    read(pieces, slow, 5)
    taken = pieces.steal(1.0)
    assert (slow.first, slow.end) == (0, 5)
    assert (taken.first, taken.end) == (5, 10)


def test_nothing_is_taken_that_comes_before_the_answer_to_another_request():
    pieces = Pieces(100, piece=10)
    run = pieces.claim(1, 0.0)
    read(pieces, run, 50)
    # 40 bytes further on, at 50 a second
    assert pieces.steal(1.0, latency_s=0.5) is None
    assert pieces.steal(1.0, latency_s=0.3) is not None


def test_piece_that_is_being_read_is_not_taken_away_from_a_usual_connection():
    pieces = Pieces(10, piece=10)
    run = pieces.claim(1, 0.0)
    read(pieces, run, 5)
    assert pieces.steal(0.5) is None
    assert pieces.steal(5.0) is None


def test_last_piece_of_a_crawling_connection_is_taken_away_and_it_reads_no_further():
    pieces = Pieces(20_000_000, piece=10_000_000)
    crawling, usual = pieces.claim(2, 0.0), pieces.claim(2, 0.0)
    bring(pieces, usual)
    pieces.give_back(usual, 1.0)
    read(pieces, crawling, 1000)
    taken = pieces.steal(10.0)
    assert (taken.first, taken.end) == (0, 1)
    assert crawling.lost
    assert pieces.next_block(crawling, 100) == 0


def test_restart_believes_nothing():
    pieces = Pieces(40, [0, 1, 2], piece=10)
    run = pieces.claim(1, 0.0)
    pieces.restart(run)
    assert (run.first, run.end, run.reached) == (0, 4, 0)
    assert pieces.done_bytes() == 0
    bring(pieces, run)
    assert pieces.complete


@given(
    st.integers(1, 400),
    st.integers(1, 40),
    st.sets(st.integers(0, 60)),
    st.integers(0, 2**32),
)
def test_whatever_happens_every_piece_comes_exactly_once(size, piece, here, seed):
    chance = random.Random(seed)
    pieces = Pieces(size, here, piece)
    brought: list[int] = []
    running: list[Run] = []
    now = 0.0
    for _step in range(2000):
        now += chance.random()
        before = pieces.done_bytes()
        if running and chance.random() < 0.7:
            run = chance.choice(running)
            run.reached += pieces.next_block(run, chance.randint(1, 2 * piece))
            while run.first < run.end and run.reached >= pieces.span(run.first)[1]:
                index = run.first
                if pieces.finish(run, index):
                    brought.append(index)
            assert pieces.done_bytes() >= before
            if pieces.next_block(run, 1) == 0 or chance.random() < 0.1:
                running.remove(run)
                pieces.give_back(run, now)
        elif len(running) < 4:
            run = pieces.claim(4, now) or pieces.steal(now)
            if run is not None:
                running.append(run)
        if pieces.complete:
            break
    missing = sorted(set(range(pieces.count)) - here)
    assert pieces.complete
    assert sorted(brought) == missing
    assert pieces.done_bytes() == pieces.front_bytes() == size
    assert pieces.finished() == list(range(pieces.count))


@pytest.mark.parametrize("size", [1, 10, 11, 95])
def test_bytes_are_counted_once(size):
    pieces = Pieces(size, piece=10)
    run = pieces.claim(1, 0.0)
    for count in range(1, size + 1):
        read(pieces, run, 1)
        assert pieces.done_bytes() == count


def test_what_is_here_is_known_from_any_place_on():
    pieces = Pieces(95, [0, 1, 4, 9], piece=10)
    run = pieces.claim(1, 0.0)
    assert run is not None
    read(pieces, run, 13)
    assert {at: pieces.here_from(at) for at in (0, 15, 20, 33, 34, 45, 90)} == {
        0: 33,
        15: 33,
        20: 33,
        33: 33,
        34: 34,
        45: 50,
        90: 95,
    }


def waiting(pieces: Pieces, *places: int) -> None:
    """Somebody waits for each of these places, and for no time."""
    with pieces.changed:
        for at in places:
            pieces.wait_for(at, 0.0)


def test_a_piece_that_somebody_waits_for_comes_first():
    pieces = Pieces(100, piece=10, in_order=True)
    waiting(pieces, 72, 31)
    runs = [pieces.claim(20, 0.0) for _ in range(4)]
    assert [(run.first, run.end) for run in runs if run] == [(7, 8), (3, 4), (0, 1), (1, 2)]


def test_an_idle_connection_takes_what_somebody_waits_for_and_another_would_reach_late():
    pieces = Pieces(100, piece=10)
    run = pieces.claim(1, 0.0)
    assert run is not None
    read(pieces, run, 10)
    waiting(pieces, 65)
    taken = pieces.steal(10.0)
    assert taken is not None
    assert ((run.first, run.end), (taken.first, taken.end)) == ((1, 6), (6, 10))


def test_runs_are_short_where_the_front_is_read_meanwhile():
    size = 2000 * PIECE
    runs = [Pieces(size, in_order=in_order).claim(4, 0.0) for in_order in (False, True)]
    assert [run.end - run.first for run in runs if run] == [150, 15]


def test_nobody_runs_far_ahead_of_a_slow_front():
    pieces = Pieces(40 * PIECE, in_order=True)
    runs = [pieces.claim(4, 0.0) for _ in range(4)]
    assert [(run.first, run.end) for run in runs if run] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert pieces.claim(4, 0.0) is None
    # but for what somebody waits for
    waiting(pieces, 30 * PIECE)
    wanted = pieces.claim(4, 0.0)
    assert wanted is not None
    assert wanted.first == 30
    front = runs[0]
    assert front is not None
    read(pieces, front, PIECE)
    following = pieces.claim(4, 0.0)
    assert following is not None
    assert (following.first, following.end) == (8, 10)


def test_of_a_short_run_nothing_is_taken_that_comes_as_fast_as_the_others():
    pieces = Pieces(4 * PIECE, in_order=True)
    first, second = pieces.claim(2, 0.0), pieces.claim(1, 0.0)
    assert first is not None
    assert second is not None
    second.reached += PIECE // 4
    read(pieces, first, 2 * PIECE)
    pieces.give_back(first, 4.0)
    # on its way already: it would come twice
    second.reached += PIECE // 4
    assert pieces.steal(4.0) is None
    taken = pieces.steal(40.0)
    assert taken is not None
    assert ((second.first, second.end), (taken.first, taken.end)) == ((2, 3), (3, 4))


def test_who_waits_is_woken_by_the_piece_and_by_the_end():
    pieces = Pieces(20, piece=10)
    run = pieces.claim(1, 0.0)
    assert run is not None
    seen: list[int] = []

    def wait(at: int) -> None:
        with pieces.changed:
            started.wait()
            pieces.wait_for(at, 60.0)
            seen.append(at)

    started = threading.Event()
    threads = [threading.Thread(target=wait, args=(at,)) for at in (5, 15)]
    for thread in threads:
        thread.start()
    started.set()
    read_when_waited_for(pieces, run, 2)
    threads[0].join(60)
    assert seen == [5]
    pieces.wake_all()
    threads[1].join(60)
    assert seen == [5, 15]


def read_when_waited_for(pieces: Pieces, run: Run, waiters: int) -> None:
    """Finishes the first piece as soon as so many wait."""
    wait_until(lambda: len(pieces._wanted) == waiters)
    with pieces.changed:
        read(pieces, run, 10)
