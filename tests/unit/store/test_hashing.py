import threading
from hashlib import sha256
from itertools import islice

import pytest

from modelrunner.store import hashing
from modelrunner.store.hashing import PENDING, SideHash, buffers

LARGE = bytes(range(256)) * 4096


@pytest.mark.parametrize("sizes", [(0,), (1, 1000), (len(LARGE),), (5, len(LARGE), 7, 0, 9) * 3])
def test_all_that_is_added_is_hashed_in_its_order(sizes):
    found, whole = SideHash(), sha256()
    for number, size in enumerate(sizes):
        piece = bytes([number]) + LARGE[:size]
        found.add(piece)
        whole.update(piece)
    assert found.hexdigest() == whole.hexdigest()


def test_what_settled_may_change():
    found, buffer = SideHash(), bytearray(LARGE)
    found.add(memoryview(buffer))
    found.settle()
    buffer[:] = bytes(len(LARGE))
    assert found.hexdigest() == sha256(LARGE).hexdigest()


def test_a_buffer_that_is_filled_again_has_been_hashed(monkeypatch):
    """However slow the hash is."""
    may_hash = threading.Semaphore(0)

    class Slow:
        def __init__(self):
            self.taken = sha256()

        def update(self, piece):
            assert may_hash.acquire(timeout=60)
            self.taken.update(piece)

        def hexdigest(self):
            return self.taken.hexdigest()

    monkeypatch.setattr(hashing, "sha256", Slow)
    found, whole, size = SideHash(), sha256(), 256 * 1024
    for number, buffer in enumerate(islice(buffers(size), 3 * PENDING + 2)):
        buffer[:] = bytes([number]) * size
        whole.update(buffer)
        if number >= PENDING:
            may_hash.release()
        found.add(buffer)
    for _ in range(PENDING):
        may_hash.release()
    assert found.hexdigest() == whole.hexdigest()


def test_buffers_come_again_in_their_order():
    made = [id(each) for each in islice(buffers(8), 3 * (PENDING + 1))]
    assert len(set(made)) == PENDING + 1
    assert made[: PENDING + 1] * 3 == made
