"""A blob is in the store whole and verified, or not at all."""

import contextlib
import os
import stat

import pytest

from modelrunner.errors import (
    CorruptStoreError,
    DigestMismatchError,
    SizeMismatchError,
    StoreAccessError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store import stamps
from modelrunner.store.journal import Journal

CONTENT = bytes(range(256)) * 64


def described(content: bytes) -> Descriptor:
    return Descriptor("application/x", Digest.of(content), len(content))


BLOB = described(CONTENT)


@pytest.fixture
def blobs(store):
    store.layout.create()
    return store.blobs


@pytest.fixture
def partial(store, blobs):
    return store.layout.partial(BLOB.digest)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def write(blobs, content, *, chunk=1000):
    with blobs.writer(BLOB) as writer:
        writer.resume_at(0)
        for start in range(0, len(content), chunk):
            writer.write(content[start : start + chunk])


def interrupt_after(blobs, content):
    with contextlib.suppress(KeyboardInterrupt), blobs.writer(BLOB) as writer:
        writer.write(content)
        raise KeyboardInterrupt


def go_on(blobs, content, *, offset):
    with blobs.writer(BLOB) as writer:
        assert writer.offset == offset
        writer.write(content)


def test_a_blob_that_arrived_is_good_read_only_and_leaves_nothing_behind(store, blobs, partial):
    assert blobs.state(BLOB) == "absent"
    write(blobs, CONTENT)
    path = blobs.path(BLOB.digest)
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert blobs.state(BLOB) == "good"
    assert blobs.read(BLOB) == CONTENT
    assert names(partial.parent) == []
    assert names(store.layout.stamps) == [BLOB.digest.hex]


def test_an_empty_blob_is_a_blob(blobs):
    blobs.put(described(b""), b"")
    assert blobs.read(described(b"")) == b""


def test_half_a_blob_is_not_visible(blobs, partial):
    with blobs.writer(BLOB) as writer:
        writer.write(CONTENT[:1000])
        assert blobs.state(BLOB) == "absent"
        assert names(blobs.path(BLOB.digest).parent) == []
        writer.write(CONTENT[1000:])
    assert blobs.state(BLOB) == "good"


def test_the_wrong_content_leaves_nothing(blobs, partial):
    with pytest.raises(DigestMismatchError) as caught:
        write(blobs, CONTENT[:-1] + b"!")
    assert caught.value.facts["expected"] == str(BLOB.digest)
    assert blobs.state(BLOB) == "absent"
    assert not partial.exists()


def test_content_that_is_too_long_leaves_nothing(blobs, partial):
    with pytest.raises(SizeMismatchError, match="expected 16384 bytes, got more"):
        write(blobs, CONTENT + b"!")
    assert blobs.state(BLOB) == "absent"
    assert not partial.exists()


def test_content_that_ends_early_is_an_error_and_leaves_nothing(blobs, partial):
    with pytest.raises(SizeMismatchError, match="unexpected end after 1000 of 16384 bytes"):
        write(blobs, CONTENT[:1000])
    assert blobs.state(BLOB) == "absent"
    assert not partial.exists()


def test_what_arrived_before_an_interruption_is_kept_and_not_asked_for_again(blobs, partial):
    interrupt_after(blobs, CONTENT[:5000])
    assert blobs.partial_bytes(BLOB) == 5000
    with blobs.writer(BLOB) as writer:
        assert writer.offset == 5000
        writer.resume_at(5000)
        writer.write(CONTENT[5000:])
    assert blobs.read(BLOB) == CONTENT
    assert not partial.exists()


def test_an_interruption_before_the_first_byte_leaves_no_file(blobs, partial):
    with pytest.raises(KeyboardInterrupt), blobs.writer(BLOB):
        raise KeyboardInterrupt
    assert not partial.exists()


def test_a_server_without_ranges_starts_again(blobs, partial):
    partial.write_bytes(b"?" * 5000)
    write(blobs, CONTENT)
    assert blobs.read(BLOB) == CONTENT


def test_a_stream_that_starts_elsewhere_is_a_bug(blobs):
    with pytest.raises(ValueError, match="cannot append a stream"), blobs.writer(BLOB) as writer:
        writer.resume_at(1)


def test_a_damaged_partial_is_found_out_and_removed(blobs, partial):
    partial.write_bytes(b"?" + CONTENT[1:5000])
    with pytest.raises(DigestMismatchError):
        go_on(blobs, CONTENT[5000:], offset=5000)
    assert not partial.exists()
    write(blobs, CONTENT)
    assert blobs.state(BLOB) == "good"


@pytest.mark.parametrize("extra", [1, 100_000])
def test_a_partial_that_is_too_long_is_worth_nothing(blobs, partial, extra):
    partial.write_bytes(CONTENT + b"!" * extra)
    assert blobs.partial_bytes(BLOB) == 0
    go_on(blobs, CONTENT, offset=0)
    assert blobs.path(BLOB.digest).stat().st_size == len(CONTENT)
    assert blobs.state(BLOB) == "good"


def test_a_journal_without_its_partial_counts_nothing(store, blobs, partial):
    with Journal(store.layout.journal(BLOB.digest), BLOB.size, 1000) as journal:
        journal.load()
        journal.add(3)
        assert blobs.partial_bytes(BLOB) == 0
        partial.write_bytes(bytes(len(CONTENT)))
        assert blobs.partial_bytes(BLOB) == 1000
    with blobs.writer(BLOB) as writer:
        assert writer.offset == 0
        writer.write(CONTENT)
    assert names(partial.parent) == []


def test_a_partial_that_is_complete_only_needs_its_name(blobs, partial):
    partial.write_bytes(CONTENT)
    go_on(blobs, b"", offset=len(CONTENT))
    assert blobs.state(BLOB) == "good"


def test_a_blob_that_is_there_is_not_written_and_its_partial_goes(blobs, partial):
    write(blobs, CONTENT)
    partial.write_bytes(CONTENT[:100])
    with blobs.writer(BLOB) as writer:
        assert writer is None
    assert not partial.exists()


def test_a_damaged_blob_is_replaced_in_one_step(blobs):
    write(blobs, CONTENT)
    path = blobs.path(BLOB.digest)
    path.chmod(0o644)
    path.write_bytes(b"?" * len(CONTENT))
    with blobs.writer(BLOB) as writer:
        writer.write(CONTENT)
        assert path.read_bytes() == b"?" * len(CONTENT)
    assert path.read_bytes() == CONTENT
    assert blobs.state(BLOB) == "good"


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"!", b"?" * len(CONTENT)])
def test_a_blob_with_other_content_is_damaged(blobs, content):
    blobs.path(BLOB.digest).write_bytes(content)
    assert blobs.state(BLOB) == "damaged"
    assert blobs.deep_state(BLOB) == "damaged"
    with pytest.raises(CorruptStoreError, match="damaged"):
        blobs.read(BLOB)


def test_a_blob_that_is_not_there_cannot_be_read(blobs):
    with pytest.raises(CorruptStoreError, match="blob missing from the local store"):
        blobs.read(BLOB)


def test_a_small_read_refuses_a_large_blob(blobs):
    write(blobs, CONTENT)
    with pytest.raises(CorruptStoreError):
        blobs.read(BLOB, limit=100)


# Stamps.


def test_a_stamped_blob_is_believed_and_another_one_is_hashed(store, blobs, monkeypatch):
    hashed = []
    real = os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *more: hashed.append(1) or real(*more))
    write(blobs, CONTENT)
    assert blobs.state(BLOB) == "good"
    assert hashed == []
    os.utime(blobs.path(BLOB.digest), ns=(1, 1))
    assert blobs.state(BLOB) == "good"
    assert hashed == [1]
    assert blobs.state(BLOB) == "good"
    assert hashed == [1]


@pytest.mark.parametrize("stamp", [b"", b"\xff\xfe", b"1 2 3", b"x" * 100_000])
def test_a_damaged_stamp_is_no_stamp(store, blobs, stamp):
    write(blobs, CONTENT)
    store.layout.stamp(BLOB.digest).write_bytes(stamp)
    assert blobs.state(BLOB) == "good"
    assert store.layout.stamp(BLOB.digest).read_bytes() != stamp


def test_a_flipped_byte_is_noticed_by_its_time(blobs):
    write(blobs, CONTENT)
    flip(blobs.path(BLOB.digest))
    assert blobs.state(BLOB) == "damaged"


def test_a_flipped_byte_under_the_old_time_is_found_by_the_deep_look_and_from_then_on(blobs):
    write(blobs, CONTENT)
    path = blobs.path(BLOB.digest)
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    # documented: the stamp is a matter of looks
    assert blobs.state(BLOB) == "good"
    assert blobs.deep_state(BLOB) == "damaged"
    assert blobs.state(BLOB) == "damaged"


def test_what_changes_while_it_is_hashed_is_not_stamped(blobs, monkeypatch):
    path = blobs.path(BLOB.digest)
    path.write_bytes(CONTENT)

    def hash_and_flip(place, *others):
        found = stamps.hash_file(place, *others)
        flip(place)
        return found

    with monkeypatch.context() as patch:
        patch.setattr("modelrunner.store.blobs.hash_file", hash_and_flip)
        assert blobs.state(BLOB) == "good"
    assert blobs.state(BLOB) == "damaged"


def test_a_stamp_from_another_device_is_not_believed(store, blobs):
    write(blobs, CONTENT)
    stamp = store.layout.stamp(BLOB.digest)
    looked = stamp.read_text()
    stamp.write_text(f"12345 {looked.partition(' ')[2]}")
    assert not stamps.is_stamped(store.layout, BLOB.digest)
    assert blobs.state(BLOB) == "good"
    assert stamp.read_text() == looked


def test_a_device_whose_number_is_made_up_at_every_mount_says_nothing():
    assert stamps._lasting(os.makedev(0, 77)) == 0
    assert stamps._lasting(os.makedev(8, 1)) == os.makedev(8, 1)


# Set aside.


def test_a_damaged_blob_is_moved_out_of_the_way_and_a_new_one_can_come(store, blobs):
    write(blobs, CONTENT)
    flip(blobs.path(BLOB.digest))
    aside = blobs.set_aside(BLOB)
    assert aside == store.layout.quarantine / BLOB.digest.hex
    assert aside.read_bytes() == b"\xff" + CONTENT[1:]
    assert blobs.state(BLOB) == "absent"
    assert names(store.layout.ingest) == []
    write(blobs, CONTENT)
    assert blobs.state(BLOB) == "good"


def test_a_good_blob_stays_where_it_is(store, blobs):
    write(blobs, CONTENT)
    assert blobs.set_aside(BLOB) is None
    assert blobs.state(BLOB) == "good"


def test_what_has_come_again_already_is_kept_when_a_damaged_blob_is_moved(store, blobs):
    interrupt_after(blobs, CONTENT[:5000])
    blobs.path(BLOB.digest).write_bytes(bytes(len(CONTENT)))
    assert blobs.set_aside(BLOB) is not None
    assert blobs.partial_bytes(BLOB) == 5000


def test_a_damaged_blob_that_is_being_fetched_anew_is_left_to_that(store, blobs):
    write(blobs, CONTENT)
    flip(blobs.path(BLOB.digest))
    with blobs.arrival(BLOB) as arrival:
        assert blobs.set_aside(BLOB) is None
        arrival.file.write(CONTENT)
    assert blobs.state(BLOB) == "good"


def flip(path):
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"\xff")
    path.chmod(0o444)


def test_a_stamp_that_cannot_be_written_spoils_nothing(store, blobs):
    store.layout.stamps.rmdir()
    store.layout.stamps.write_bytes(b"")
    write(blobs, CONTENT)
    assert blobs.state(BLOB) == "good"
    assert blobs.deep_state(BLOB) == "good"


# Traps.


def test_a_symbolic_link_in_the_place_of_a_partial_is_not_followed(blobs, partial, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    partial.symlink_to(victim)
    with pytest.raises(StoreAccessError), blobs.writer(BLOB):
        pass
    assert victim.read_bytes() == b"precious"
    assert stat.S_IMODE(victim.stat().st_mode) != 0o444


def test_a_folder_in_the_place_of_a_partial_is_no_bug(blobs, partial):
    partial.mkdir()
    with pytest.raises(StoreAccessError), blobs.writer(BLOB):
        pass


def test_what_goes_wrong_while_a_blob_arrives_is_not_blamed_on_the_store(blobs):
    with pytest.raises(PermissionError), blobs.writer(BLOB):
        raise PermissionError(13, "Permission denied", "/etc/ssl/key.pem")
