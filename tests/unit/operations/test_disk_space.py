"""Room on the disk, for all that is on its way together."""

import shutil
from collections import namedtuple

import pytest

from modelrunner.errors import DiskFullError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.operations.disk_space import Room

GIB = 1024**3
Usage = namedtuple("Usage", "total used free")


def blob(name, size):
    return Descriptor("application/octet-stream", Digest.of(name.encode()), size)


@pytest.fixture(autouse=True)
def five_gigabytes_free(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10 * GIB, 5 * GIB, 5 * GIB))


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
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10, 10, 0))
    with Room().taken(store, []):
        pass
