"""The hash of a blob whose pieces land in any order."""

import os
import random

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.transfer.hasher import FrontHasher
from modelrunner.transfer.pieces import Pieces

PIECE = 1000


@pytest.fixture
def handle(tmp_path):
    handle = os.open(tmp_path / "blob", os.O_RDWR | os.O_CREAT)
    yield handle
    os.close(handle)


def finish(pieces, index):
    run = pieces.claim(pieces.count, 0.0)
    run.first, run.end = index, index + 1
    pieces.finish(run, index)
    pieces._runs.remove(run)


@pytest.mark.parametrize("size", [0, 1, PIECE, 10 * PIECE, 2_500_000 + 17])
def test_digest_is_that_of_the_content(handle, size):
    content = random.Random(size).randbytes(size)
    pieces = Pieces(size, piece=PIECE if size < 100_000 else 300_000)
    hasher = FrontHasher(handle, pieces)
    order = list(range(pieces.count))
    random.Random(1).shuffle(order)
    for index in order:
        first, last = pieces.span(index)
        os.pwrite(handle, content[first:last], first)
        finish(pieces, index)
    assert hasher.digest() == Digest.of(content)
    hasher.stop()


def test_what_was_here_before_is_hashed_too(handle):
    content = random.Random(3).randbytes(5 * PIECE)
    os.pwrite(handle, content, 0)
    hasher = FrontHasher(handle, Pieces(len(content), range(5), PIECE))
    assert hasher.digest() == Digest.of(content)


def test_file_that_was_cut_behind_our_back_is_an_error_and_no_hang(handle):
    os.pwrite(handle, bytes(PIECE), 0)
    hasher = FrontHasher(handle, Pieces(3 * PIECE, range(3), PIECE))
    with pytest.raises(OSError, match="ends at 1000"):
        hasher.digest()


def test_hasher_that_is_stopped_ends_at_once(handle):
    hasher = FrontHasher(handle, Pieces(3 * PIECE, piece=PIECE))
    hasher.stop()
    assert not hasher._thread.is_alive()
