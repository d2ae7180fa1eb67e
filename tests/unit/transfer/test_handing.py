"""Blocks that are hashed from memory, and bytes that are fetched a second time."""

import os
import random

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.transfer.hasher import FrontHasher
from modelrunner.transfer.pieces import Pieces

PIECE = 1000
CONTENT = random.Random(7).randbytes(5 * PIECE)


@pytest.fixture
def handle(tmp_path):
    handle = os.open(tmp_path / "blob", os.O_RDWR | os.O_CREAT)
    yield handle
    os.close(handle)


@pytest.fixture
def pieces():
    return Pieces(len(CONTENT), piece=PIECE)


@pytest.fixture
def hasher(handle, pieces):
    hasher = FrontHasher(handle, pieces)
    yield hasher
    hasher.stop()


def bring(handle, pieces, hasher, run, count, content=CONTENT, *, write=True):
    """A connection reads, writes and hands over one block."""
    buffer = bytearray(content[run.reached : run.reached + count])
    if write:
        os.pwrite(handle, buffer, run.reached)
    taken = hasher.hand(run, buffer, len(buffer))
    while run.first < run.end and run.reached >= pieces.span(run.first)[1]:
        pieces.finish(run, run.first)
    return taken


def test_blocks_in_their_turn_are_hashed_from_memory(handle, pieces, hasher):
    run = pieces.claim(1, 0.0)
    # nothing is on disk: what is hashed can only come from memory
    taken = [bring(handle, pieces, hasher, run, 250, write=False) for _ in range(20)]
    assert all(taken)
    assert hasher.digest() == Digest.of(CONTENT)


def test_block_further_on_is_not_taken_over_and_hashed_in_its_turn(handle, pieces, hasher):
    first, second = pieces.claim(2, 0.0), pieces.claim(2, 0.0)
    assert not bring(handle, pieces, hasher, second, PIECE)
    bring(handle, pieces, hasher, first, 2 * PIECE)
    pieces.give_back(first, 1.0)
    pieces.give_back(second, 1.0)
    while run := pieces.claim(1, 1.0):
        bring(handle, pieces, hasher, run, 5 * PIECE)
    assert hasher.digest() == Digest.of(CONTENT)


def test_piece_that_is_given_back_half_is_hashed_on_from_there(handle, pieces, hasher):
    run = pieces.claim(1, 0.0)
    bring(handle, pieces, hasher, run, 500)
    pieces.give_back(run, 1.0)
    run = pieces.claim(1, 1.0)
    assert run.reached == 500
    assert bring(handle, pieces, hasher, run, len(CONTENT), write=False)
    assert hasher.digest() == Digest.of(CONTENT)


def test_good_bytes_that_bad_ones_replace_do_not_count(handle, pieces, hasher):
    run = pieces.claim(1, 0.0)
    bring(handle, pieces, hasher, run, 500)
    pieces.restart(run)
    bad = bytes(500) + CONTENT[500:]
    bring(handle, pieces, hasher, run, len(CONTENT), bad)
    assert hasher.digest() == Digest.of(bad)


def test_restart_forgets_the_hash_and_the_other_connections(handle, pieces, hasher):
    first, second = pieces.claim(2, 0.0), pieces.claim(2, 0.0)
    bring(handle, pieces, hasher, first, PIECE, bytes(len(CONTENT)))
    pieces.restart(first)
    assert second.lost
    assert not bring(handle, pieces, hasher, second, 100, write=False)
    bring(handle, pieces, hasher, first, len(CONTENT))
    assert hasher.digest() == Digest.of(CONTENT)


def test_a_buffer_is_used_again_unless_it_is_too_small(handle, pieces, hasher):
    run = pieces.claim(1, 0.0)
    for count in (400, 500, 600, 700):
        # as many as there may be
        assert len(hasher.another(count)) == count
    bring(handle, pieces, hasher, run, 250)
    assert len(hasher.another(200)) == 250
    bring(handle, pieces, hasher, run, 250)
    assert len(hasher.another(300)) == 300
