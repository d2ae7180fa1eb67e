"""Room on the disk, for all that is on its way together."""

import os
from collections import namedtuple

import pytest

from modelrunner.errors import DiskFullError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.operations.disk_space import Room

GIB = 1024**3
Free = namedtuple("Free", "f_bavail f_frsize")


def blob(name, size):
    return Descriptor("application/octet-stream", Digest.of(name.encode()), size)


@pytest.fixture(autouse=True)
def five_gigabytes_free(monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda _path: Free(5 * GIB // 4096, 4096))


def test_what_fits_alone_may_not_fit_beside_others(store):
    room = Room()
    with room.taken(store, [blob("a", 3 * GIB)]):
        with pytest.raises(
            DiskFullError, match=r"3\.00 GiB more are needed, and 3\.00 GiB of other"
        ):
            room.taken(store, [blob("b", 3 * GIB)]).__enter__()
        with room.taken(store, [blob("c", GIB)]):
            pass
    with room.taken(store, [blob("b", 3 * GIB)]):
        pass


def test_a_blob_that_two_models_have_takes_room_once(store):
    room = Room()
    with room.taken(store, [blob("a", 3 * GIB)]), room.taken(store, [blob("a", 3 * GIB)]):
        pass


def test_what_has_arrived_is_not_counted_again(store):
    room = Room()
    store.layout.create()
    with room.taken(store, [blob("a", 3 * GIB)]):
        store.layout.blob(Digest.of(b"a")).touch()
        with room.taken(store, [blob("b", 3 * GIB)]):
            pass


def test_nothing_to_fetch_needs_no_room(store, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda _path: Free(0, 4096))
    with Room().taken(store, []):
        pass
