"""A small blob that is new comes in few steps, and is as safe as any other."""

import os
import stat

import pytest

from modelrunner.disk.inside import open_inside
from modelrunner.disk.lock import try_lock
from modelrunner.errors import DigestMismatchError, StoreAccessError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store import writer
from modelrunner.store.stamps import is_stamped

CONTENT = bytes(range(256)) * 64
BLOB = Descriptor("application/x", Digest.of(CONTENT), len(CONTENT))


@pytest.fixture
def layout(store):
    store.layout.create()
    return store.layout


@pytest.fixture
def make(store, layout):
    """What makes the blob's file, as a pull that begins now does."""
    return lambda: store.blobs.new_files().make(BLOB.digest)


def arriving(layout):
    return sorted(entry.name for entry in layout.ingest.iterdir() if entry.name != "lock")


def end(made, content, error):
    """Write something, and let the block end with an error."""
    with made as new:
        os.pwrite(new.handle, content, 0)
        raise error


def test_blob_has_its_name_when_the_block_ends_and_not_before(store, layout, make):
    path = layout.blob(BLOB.digest)
    with make() as new:
        os.pwrite(new.handle, CONTENT, 0)
        assert not path.exists()
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert arriving(layout) == []
    assert is_stamped(layout, BLOB.digest)
    assert store.blobs.state(BLOB) == "good"


def test_content_is_flushed_before_it_has_a_name(layout, make, monkeypatch):
    named = []
    monkeypatch.setattr(
        writer, "flush", lambda _handle: named.append(layout.blob(BLOB.digest).exists())
    )
    with make() as new:
        os.pwrite(new.handle, CONTENT, 0)
    assert named == [False]


def test_file_is_locked_until_the_blob_has_its_name(layout, make):
    with make() as new:
        with open_inside(layout.partial(BLOB.digest), "update") as other:
            assert not try_lock(other)
        os.pwrite(new.handle, CONTENT, 0)
    with open_inside(layout.blob(BLOB.digest), "held") as other:
        assert try_lock(other)


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), StoreAccessError("no", hint="do")],
    ids=lambda e: type(e).__name__,
)
def test_what_arrived_is_kept_where_the_block_raises(store, layout, make, error):
    with pytest.raises(type(error)):
        end(make(), CONTENT[:5000], error)
    assert layout.partial(BLOB.digest).read_bytes() == CONTENT[:5000]
    assert not layout.blob(BLOB.digest).exists()
    with store.blobs.writer(BLOB) as more:
        assert more.offset == 5000
        more.write(CONTENT[5000:])
    assert store.blobs.state(BLOB) == "good"


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", KeyboardInterrupt()), (b"wrong", DigestMismatchError("wrong"))],
    ids=["nothing", "wrong"],
)
def test_nothing_and_what_is_wrong_are_not_kept(layout, make, content, error):
    with pytest.raises(type(error)):
        end(make(), content, error)
    assert arriving(layout) == []
    assert not layout.blob(BLOB.digest).exists()


def test_file_that_cannot_be_named_is_an_error_of_the_store(layout, make):
    new = make()
    layout.blob(BLOB.digest).mkdir()
    with pytest.raises(StoreAccessError), new:
        os.pwrite(new.handle, CONTENT, 0)


def _link(layout):
    layout.partial(BLOB.digest).symlink_to(layout.root / "elsewhere")


def _keep_a_part(layout):
    layout.partial(BLOB.digest).write_bytes(b"part")


def _keep_a_journal(layout):
    layout.journal(BLOB.digest).write_bytes(b"pieces")


def _keep_the_blob(layout):
    layout.blob(BLOB.digest).write_bytes(CONTENT)


def _share(layout):
    layout.ingest.chmod(0o2775)


@pytest.mark.parametrize("before", [_link, _keep_a_part, _keep_a_journal, _keep_the_blob, _share])
def test_what_is_not_all_new_goes_the_usual_way(store, layout, make, before):
    before(layout)
    assert make() is None
    assert not (layout.root / "elsewhere").exists()
    if before is not _link:
        # and it is there to be gone
        with store.blobs.arrival(BLOB, one_of_many=True) as arrival:
            if arrival is not None:
                arrival.reset()
                arrival.file.write(CONTENT)
        assert store.blobs.state(BLOB) == "good"
        assert arriving(layout) == []


def test_file_that_another_process_has_replaced_before_the_lock_is_not_used(
    layout, make, monkeypatch
):
    partial = layout.partial(BLOB.digest)

    def late(_handle):
        partial.unlink()
        partial.write_bytes(b"of another process")
        return True

    monkeypatch.setattr(writer, "lock_new", late)
    assert make() is None
    assert partial.read_bytes() == b"of another process"


def test_file_that_cannot_be_locked_is_left_to_the_usual_way(layout, make, monkeypatch):
    monkeypatch.setattr(writer, "lock_new", lambda _handle: False)
    assert make() is None
    assert arriving(layout) == [f"{BLOB.digest.hex}.partial"]


def test_stamp_of_an_earlier_file_is_replaced(layout, make):
    layout.stamp(BLOB.digest).write_text("of another file")
    with make() as new:
        os.pwrite(new.handle, CONTENT, 0)
    assert is_stamped(layout, BLOB.digest)


def test_stamp_that_was_not_written_to_its_end_is_made_again(store, layout, make):
    with make() as new:
        os.pwrite(new.handle, CONTENT, 0)
    layout.stamp(BLOB.digest).write_bytes(b"")
    assert not is_stamped(layout, BLOB.digest)
    assert store.blobs.state(BLOB) == "good"
    assert is_stamped(layout, BLOB.digest)


def test_stamp_is_not_written_through_a_link(layout, make):
    other = layout.root / "elsewhere"
    other.write_text("mine")
    layout.stamp(BLOB.digest).symlink_to(other)
    with make() as new:
        os.pwrite(new.handle, CONTENT, 0)
    assert other.read_text() == "mine"
    assert is_stamped(layout, BLOB.digest)
