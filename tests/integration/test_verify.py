"""Verification: what it finds, what it moves away, and what it leaves alone."""

import os
import shutil
import signal
import subprocess
import threading

import pytest

from modelrunner.events import Advanced, Finished, Planned, Started, Verified
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.operations import verify
from modelrunner.operations.verify import quarantine, verify_models, verify_store
from modelrunner.runtime import threads
from modelrunner.store.index import Entry
from modelrunner.store.store import Store
from modelrunner.store.sweep import remove_blobs_of
from tests.support.artifacts import docker_artifact, index_artifact
from tests.support.stores import put

LICENSE = b"do as you like"
ONE = docker_artifact(b"GGUF one" * 1000, license=LICENSE)
TWO = docker_artifact(b"GGUF two" * 500, license=LICENSE)
SHARED = Digest.of(LICENSE)


@pytest.fixture
def filled(store):
    put(store, ONE, "ai/one:1", "ai/one:latest")
    put(store, TWO, "ai/two:1")
    return store


def spoil(store, digest):
    path = store.blobs.path(digest)
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def rot(store, digest):
    """Like `spoil`, unseen by whoever looks at the file from outside."""
    path = store.blobs.path(digest)
    before = path.stat()
    spoil(store, digest)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def count_hashed(monkeypatch):
    hashed = []
    real = os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *more: hashed.append(1) or real(*more))
    return hashed


@pytest.mark.parametrize("deep", [True, False])
def test_everything_in_a_sound_store_is_good(filled, deep):
    found = verify_store(filled, deep=deep)
    digests = {ONE.digest, TWO.digest, *ONE.blobs, *TWO.blobs}
    assert {entry.digest for entry in found.findings} == digests
    assert found.bad == found.foreign == ()


def test_a_damaged_blob_is_named_with_every_model_that_needs_it(filled):
    spoil(filled, SHARED)
    (bad,) = verify_store(filled, deep=False).bad
    assert (bad.digest, bad.state, bad.size) == (str(SHARED), "damaged", len(LICENSE))
    assert bad.models == ("ai/one:1", "ai/two:1")


def test_what_is_moved_away_is_absent_from_then_on(filled):
    spoil(filled, SHARED)
    (path,) = quarantine(filled, verify_store(filled, deep=False).bad)
    assert path == filled.layout.quarantine / SHARED.hex
    assert [entry.state for entry in verify_store(filled, deep=True).bad] == ["absent"]
    put(filled, TWO, "ai/two:1")
    assert verify_store(filled, deep=True).bad == ()


@pytest.mark.parametrize("artifact", [ONE.digest, *ONE.blobs], ids=["manifest", *"123"])
def test_rot_is_found_by_a_deep_look_in_every_blob_and_moved_away(filled, artifact):
    digest = Digest.parse(artifact)
    rot(filled, digest)
    bad = verify_store(filled, deep=True).bad
    assert (artifact, "damaged") in [(entry.digest, entry.state) for entry in bad]
    assert filled.layout.quarantine / digest.hex in quarantine(filled, bad)
    put(filled, ONE, "ai/one:1")
    assert verify_store(filled, deep=True).bad == ()


def test_a_restored_store_is_hashed_once_and_stamped_again(filled, tmp_path, monkeypatch):
    # as a cache does it: other inodes, and times of its own
    shutil.copytree(filled.layout.root, tmp_path / "restored" / "v1", copy_function=shutil.copy)
    restored = Store(tmp_path / "restored")
    hashed = count_hashed(monkeypatch)
    assert verify_store(restored, deep=False).bad == ()
    assert len(hashed) == len({*ONE.blobs, *TWO.blobs})
    hashed.clear()
    assert verify_store(restored, deep=False).bad == ()
    assert hashed == []


def test_blobs_that_no_model_needs_are_checked_too(filled):
    filled.untag(model for model in filled.resolve("ai/two:1").references)
    spoil(filled, Digest.of(TWO.layers[0]))
    (bad,) = verify_store(filled, deep=False).bad
    assert (bad.models, bad.state) == ((), "damaged")
    # asked for one model, the rest does not matter
    assert {entry.state for entry in verify_models(filled, filled.models(), deep=True)} == {"good"}


def test_what_is_no_blob_is_told_and_what_is_being_written_is_not(filled):
    blobs = filled.layout.blobs
    for name in ("notes.txt", ".tmp-abc", "0" * 63):
        (blobs / name).write_bytes(b"x")
    (blobs.parent / "sha512").mkdir()
    (blobs.parent / "sha512" / ("0" * 128)).write_bytes(b"x")
    filled.layout.partial(SHARED).write_bytes(b"half")
    found = verify_store(filled, deep=True)
    assert found.bad == ()
    assert {path.name for path in found.foreign} == {"notes.txt", "0" * 63, "0" * 128}


def test_an_index_of_another_tool_is_no_damage(filled):
    index = index_artifact(ONE)
    there = Descriptor(index.media_type, Digest.parse(index.digest), len(index.manifest))
    filled.blobs.put(there, index.manifest)
    with filled.changing() as entries:
        entries.append(Entry(None, there))
    found = verify_store(filled, deep=True)
    assert found.bad == ()
    assert index.digest in {entry.digest for entry in found.findings}


def test_a_file_that_cannot_be_read_is_told_and_moved_away(filled):
    path = filled.blobs.path(SHARED)
    path.unlink()
    path.mkdir()
    (bad,) = verify_store(filled, deep=True).bad
    assert bad.state == "damaged"
    assert quarantine(filled, [bad]) == (filled.layout.quarantine / SHARED.hex,)
    assert not path.exists()


def test_progress_tells_of_every_byte_and_only_of_much(filled, monkeypatch):
    events = []
    verify_store(filled, deep=True, listener=events.append)
    assert events == []
    monkeypatch.setattr(verify, "_WORTH_TELLING", 0)
    verify_store(filled, deep=True, listener=events.append)
    total = sum(map(len, {**ONE.blobs, **TWO.blobs}.values()))
    assert isinstance(events[0], Planned)
    assert events[0].total_bytes == total
    assert isinstance(events[-1], Finished)
    kinds = [type(event) for event in events]
    assert kinds.count(Started) == kinds.count(Verified) == 5
    assert sum(event.done for event in events if isinstance(event, Advanced)) == total


def test_blobs_are_hashed_at_the_same_time(filled, monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    monkeypatch.setattr(verify, "_WORTH_TELLING", 0)
    meeting, met = threading.Barrier(2, timeout=20), []
    real = filled.blobs.deep_state

    def meet(descriptor, on_bytes):
        if len(met) < 2 and descriptor.size > 100:
            met.append(descriptor.size)
            # goes on only when two of them are here
            meeting.wait()
        return real(descriptor, on_bytes)

    monkeypatch.setattr(filled.blobs, "deep_state", meet)
    assert verify_store(filled, deep=True).bad == ()
    # the largest first
    assert sorted(met) == sorted([len(ONE.layers[0]), len(TWO.layers[0])])


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_whoever_ends_it_does_not_wait_for_the_largest_blob(cli, tmp_path):
    store = cli.store
    put(store, ONE, "ai/one:1")
    # minutes of hashing, though nothing on the disk
    big = store.layout.blobs / ("0" * 64)
    with big.open("wb") as file:
        file.truncate(200 * 1024**3)
    process = subprocess.Popen(
        cli.argv("verify", "--deep", "--progress", "json"),
        env=dict(cli.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    while b"advanced" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert big.exists()


@pytest.fixture
def copied(filled, monkeypatch):
    """A store whose views are copies: the file of a view."""

    def refuse(_source, _target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    return filled.resolve("ai/one:1").weights()


def test_a_deep_look_reads_copies_in_views_and_what_is_wrong_is_made_again(filled, copied):
    assert verify_store(filled, deep=True).bad == ()
    before = copied.stat()
    copied.chmod(0o644)
    copied.write_bytes(b"GGUF 0ne" * 1000)
    os.utime(copied, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert filled.resolve("ai/one:1").weights().read_bytes() == b"GGUF 0ne" * 1000
    (bad,) = verify_store(filled, deep=True).bad
    assert (bad.state, bad.path, bad.models) == ("replaced", copied, ("ai/one:1",))
    assert quarantine(filled, [bad]) == ()
    assert filled.resolve("ai/one:1").weights().read_bytes() == b"GGUF one" * 1000
    assert verify_store(filled, deep=True).bad == ()


def test_a_model_that_is_removed_meanwhile_is_no_loss(filled, monkeypatch):
    real = verify._checked

    def remove_first(*arguments, **more):
        model = filled.resolve("ai/one:1")
        filled.forget(model.digest)
        remove_blobs_of(filled, model)
        return real(*arguments, **more)

    monkeypatch.setattr(verify, "_checked", remove_first)
    assert verify_store(filled, deep=False).bad == ()
    assert [str(model.digest) for model in filled.models()] == [TWO.digest]


def test_a_model_that_is_removed_and_pulled_again_meanwhile_is_good(filled, monkeypatch):
    real = verify._checked

    def remove_first(*arguments, **more):
        model = filled.resolve("ai/one:1")
        filled.forget(model.digest)
        remove_blobs_of(filled, model)
        found = real(*arguments, **more)
        put(filled, ONE, "ai/one:1")
        return found

    monkeypatch.setattr(verify, "_checked", remove_first)
    assert verify_store(filled, deep=False).bad == ()
