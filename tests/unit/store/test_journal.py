"""Which pieces of an arriving blob are noted, and what a journal of another cut is worth."""

import pytest

from modelrunner.store.journal import Journal, noted_bytes

SIZE = 1000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "blob.journal"


def note(path, piece, *indexes, size=SIZE):
    with Journal(path, size, piece) as journal:
        journal.reset()
        journal.add(*indexes)


def load(path, piece):
    with Journal(path, SIZE, piece) as journal:
        return journal.load()


def test_what_is_noted_is_found_again(path):
    note(path, 100, 0, 3, 9)
    assert load(path, 100) == [0, 3, 9]
    assert noted_bytes(path, SIZE) == 300


@pytest.mark.parametrize(
    ("piece", "found", "bytes_kept"),
    [
        (50, [2, 3, 4, 5, 18, 19], 300),
        (200, [], 0),
        (150, [1, 6], 250),
        (30, [*range(4, 10), *range(30, 34)], 280),
    ],
)
def test_journal_of_another_piece_size_keeps_what_lies_in_its_pieces(
    path, piece, found, bytes_kept
):
    note(path, 100, 1, 2, 9)

    assert load(path, piece) == found
    # and is rewritten
    assert load(path, piece) == found
    assert noted_bytes(path, SIZE) == bytes_kept


def test_journal_of_another_size_is_worth_nothing(path):
    note(path, 100, 0, 1, size=SIZE - 1)
    assert load(path, 100) == []
    assert noted_bytes(path, SIZE) == 0
