"""What connections for small blobs share: how much is on its way at once."""

import threading
from collections import deque

import pytest

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.store.blobs import BlobStore
from modelrunner.store.layout import Layout
from modelrunner.transfer.carrier import MOVING, Failure, Load
from modelrunner.transfer.limits import Throttle

SIZE = MOVING * 5 // 8
BLOBS = [Descriptor("x", Digest.of(bytes([number])), SIZE) for number in range(4)]


@pytest.fixture
def load(tmp_path):
    blobs = BlobStore(Layout.under(tmp_path))
    return Load(
        Reference.parse("ai/x"), {}, blobs, lambda: None, Throttle(None), deque(BLOBS),
        blobs.new_files(),
    )  # fmt: skip


def in_a_thread(load):
    """A thread that takes the next blob, which waits by now."""
    found = []
    thread = threading.Thread(target=lambda: found.append(load.next()), daemon=True)
    thread.start()
    thread.join(0.2)
    assert found == []
    return thread, found


def test_next_blob_begins_when_enough_of_those_on_their_way_has_come(load):
    assert load.next() is BLOBS[0]
    thread, found = in_a_thread(load)

    load.note_here(MOVING // 8)
    thread.join(0.2)
    assert found == []
    load.note_here(MOVING // 8)
    thread.join(60)

    assert found == [BLOBS[1]]
    assert load.moving == MOVING


def test_all_begin_where_little_comes(load):
    load.ample = 0.0

    assert [load.next() for _ in range(5)] == [*BLOBS, None]


def test_what_has_come_of_a_blob_counts_no_more_when_it_ends(load):
    load.next()
    load.note_here(SIZE - 5)

    load.end(5)

    assert load.moving == 0


def test_those_that_wait_hear_of_a_failure(load):
    load.next()
    waiting = [in_a_thread(load) for _ in range(3)]

    load.end(SIZE, Failure(BLOBS[0], None))
    for thread, _ in waiting:
        thread.join(60)

    assert [found for _, found in waiting] == [[None]] * 3
