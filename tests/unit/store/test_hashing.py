from hashlib import sha256

import pytest

from modelrunner.store.hashing import SideHash

LARGE = bytes(range(256)) * 4096


@pytest.mark.parametrize("size", [0, 1, 1000, len(LARGE)])
def test_bytes_are_hashed_beside_what_is_done_with_them(size):
    found, buffer = SideHash(), bytearray(LARGE[:size])
    for _ in range(3):
        with found.beside(memoryview(buffer)):
            pass
    # overwritten after the block
    buffer[:] = bytes(size)
    assert found.hexdigest() == sha256(LARGE[:size] * 3).hexdigest()


@pytest.mark.parametrize("size", [1000, len(LARGE)])
def test_bytes_that_could_not_be_used_do_not_count(size):
    found = SideHash()
    found.update(b"before")
    with pytest.raises(OSError, match="full"), found.beside(LARGE[:size]):
        raise OSError("full")
    found.update(LARGE[:10])
    assert found.hexdigest() == sha256(b"before" + LARGE[:10]).hexdigest()
