"""Pulls of models with many small files: together, over few connections, and as safe as one."""

import os
import random
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.disk.inside import open_inside
from modelrunner.disk.lock import lock
from modelrunner.errors import (
    DeadlineError,
    DigestMismatchError,
    DiskFullError,
    MalformedGGUFError,
    NotFoundError,
    StoreAccessError,
)
from modelrunner.events import Advanced, Finished, Planned, Retrying, Skipped, Started, Verified
from modelrunner.oci.reference import Reference
from modelrunner.operations.pull.pull import Puller
from modelrunner.registry.http.retry import Backoff
from modelrunner.store.blobs import BlobStore
from modelrunner.transfer.budget import Budget, CancelledError
from modelrunner.transfer.limits import Limits
from tests.support.artifacts import docker_artifact
from tests.support.pulling import QUICK, Pulling
from tests.support.registry import Cdn, Registry, sha256
from tests.support.waiting import wait_until

RANDOM = random.Random(5)
FILES = {f"files/{number:02}.bin": RANDOM.randbytes(30_000 + number) for number in range(40)}
LARGE_FILE = RANDOM.randbytes(1_300_000)
"""Of several reads."""
MODEL = docker_artifact(b"GGUF small", extra_files={**FILES, "files/large.bin": LARGE_FILE})
BLOBS = len(FILES) + 3
"""With the config, the weights, and the larger file."""


@pytest.fixture
def registry():
    with Registry() as registry:
        registry.add(MODEL, "ai/many", tags=["1"])
        yield registry


@pytest.fixture
def name(registry):
    return registry.reference("ai/many:1")


@pytest.fixture
def pulling(store):
    return Pulling(store)


def assert_stored(pulling):
    (model,) = pulling.store.models()
    assert str(model.digest) == MODEL.digest
    for digest, content in MODEL.blobs.items():
        path = pulling.store.layout.blobs / digest.removeprefix("sha256:")
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o222 == 0
    for file, content in FILES.items():
        assert (model.view() / file).read_bytes() == content
    assert pulling.leftovers == []


def whole(pulling):
    """The digests of the blobs that are here."""
    return {f"sha256:{path.name}" for path in pulling.store.layout.blobs.iterdir()}


def partial(pulling, content):
    """Where a blob arrives."""
    pulling.store.layout.create()
    return pulling.store.layout.ingest / f"{sha256(content).removeprefix('sha256:')}.partial"


def test_small_files_come_over_kept_connections_with_a_request_each(pulling, registry, name):
    pulled = pulling.pull(name)

    assert_stored(pulling)
    assert (pulled.downloaded_bytes, pulled.resumed_bytes) == (MODEL.size, 0)
    assert pulled.origins == {registry.host: MODEL.size}
    assert registry.count("GET", "blobs") == BLOBS
    assert all(request.range is None for request in registry.requests_of(kind="blob"))
    assert registry.connections() <= 16


def test_each_small_file_is_heard_of_from_its_start_to_its_end(pulling, name):
    pulling.pull(name)

    assert [event.total_bytes for event in pulling.heard(Planned)] == [MODEL.size]
    for digest, content in MODEL.blobs.items():
        own = [event for event in pulling.events if getattr(event, "digest", None) == digest]
        kinds = [type(event) for event in own]
        assert kinds[0] is Started
        assert kinds[-1] is Verified
        assert set(kinds[1:-1]) == {Advanced}
        assert [event.done for event in own if isinstance(event, Advanced)][-1] == len(content)
    assert isinstance(pulling.events[-1], Finished)


def test_first_files_are_requested_while_the_config_is_on_its_way(pulling, registry):
    files = {f"{number}.bin": RANDOM.randbytes(1_100_000) for number in range(6)}
    model = docker_artifact(b"GGUF" + bytes(1_100_000), extra_files=files)
    registry.add(model, "ai/many", tags=["2"])
    config, handle = sha256(model.config), registry.handle
    requested, before = threading.Semaphore(0), []

    def hold_config(request):
        if request.kind == "blob" and request.reference != config:
            requested.release()
        elif request.reference == config:
            before.extend(requested.acquire(timeout=60) for _ in range(3))
        return handle(request)

    registry.handle = hold_config

    pulling.pull(registry.reference("ai/many:2"))

    assert before == [True] * 3
    assert registry.count("GET", "blobs") == len(files) + 2


def test_no_more_connections_than_are_allowed(store, registry, name):
    limits = Limits(connections=2)
    puller = Puller(
        store, Pulling(store).places.source_for, backoff=lambda: QUICK, budget=Budget(limits)
    )

    puller.pull(Reference.parse(name))

    assert registry.connections("blob") <= 2


def test_rate_holds_for_small_files_together(store, registry, name):
    # counted by the throttle, not by a clock
    taken = []
    budget = Budget(Limits(rate=50_000_000))
    take = budget.throttle.take

    def count(size):
        taken.append(size)
        take(size)

    budget.throttle.take = count
    puller = Puller(store, Pulling(store).places.source_for, backoff=lambda: QUICK, budget=budget)

    puller.pull(Reference.parse(name))

    assert sum(taken) == MODEL.size


# What reaches the disk, and when.


def test_file_is_on_the_disk_before_it_has_a_name_and_names_before_the_model(
    pulling, name, monkeypatch
):
    layout, seen = pulling.store.layout, []
    fsync, replace_path = os.fsync, Path.replace

    def note_fsync(handle):
        fsync(handle)
        seen.append(("flushed", str(Path(f"/proc/self/fd/{handle}").readlink())))

    def note_replace(path, target):
        seen.append(("named", str(path), str(target)))
        return replace_path(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    pulling.pull(name)

    last_name = 0
    for at, entry in enumerate(seen):
        if entry[0] == "named" and entry[2].startswith(str(layout.blobs)):
            assert ("flushed", entry[1]) in seen[:at]
            last_name = at
    flushes = [at for at, entry in enumerate(seen) if entry == ("flushed", str(layout.blobs))]
    # the config's and the manifest's, which come alone, and one for all others
    assert len(flushes) == 3
    assert flushes[-1] > last_name
    named = [at for at, entry in enumerate(seen) if entry[-1] == str(layout.index)]
    assert named[-1] > flushes[-1]


def test_files_that_an_earlier_pull_has_not_named_are_not_fetched_again(pulling, registry, name):
    content = FILES["files/07.bin"]
    partial(pulling, content).write_bytes(content)

    pulled = pulling.pull(name)

    assert_stored(pulling)
    assert pulled.resumed_bytes == len(content)
    assert pulled.downloaded_bytes == MODEL.size - len(content)
    assert registry.bytes_sent(sha256(content)) == 0


def test_file_goes_on_where_an_earlier_pull_has_ended(pulling, registry, name):
    content = FILES["files/07.bin"]
    partial(pulling, content).write_bytes(content[:20_000])

    pulled = pulling.pull(name)

    assert_stored(pulling)
    assert pulled.resumed_bytes == 20_000
    assert registry.bytes_sent(sha256(content)) == len(content) - 20_000


@pytest.mark.parametrize(
    "left",
    [bytes(30_007), b"x" * 20_000, bytes(90_000)],
    ids=["holes", "a wrong front", "too long"],
)
def test_what_is_wrong_of_an_earlier_pull_is_fetched_again(pulling, name, left):
    content = FILES["files/07.bin"]
    partial(pulling, content).write_bytes(left)

    pulling.pull(name)

    assert_stored(pulling)


def test_what_the_engine_has_begun_it_ends(pulling, name):
    content = LARGE_FILE
    path = partial(pulling, content)
    path.write_bytes(content[:600_000] + bytes(len(content) - 600_000))
    path.with_suffix(".journal").write_bytes(
        b'{"version": 1, "size": 1300000, "piece": 524288}\n' + bytes(4)
    )

    pulled = pulling.pull(name)

    assert_stored(pulling)
    assert pulled.resumed_bytes == 524_288


def test_others_do_not_wait_for_what_the_engine_has_begun(pulling, name):
    content = FILES["files/00.bin"]
    path = partial(pulling, content)
    path.write_bytes(content[:9] + bytes(len(content) - 9))
    header = b'{"version": 1, "size": %d, "piece": 524288}\n' % len(content)
    path.with_suffix(".journal").write_bytes(header)

    pulling.pull(name)

    assert_stored(pulling)
    assert pulling.heard(Verified)[-1].digest == sha256(content)


# Servers, proxies and lines that are not as they should be.


def test_answers_that_break_off_are_taken_up_where_they_ended(pulling, registry, name):
    registry.cut_after(20_000, times=None, on="blob")

    pulled = pulling.pull(name)

    assert_stored(pulling)
    assert pulled.downloaded_bytes == MODEL.size
    small = [sha256(content) for content in FILES.values()]
    assert [registry.bytes_sent(digest) for digest in small] == list(map(len, FILES.values()))
    heard = [event for event in pulling.heard(Retrying) if event.digest in small]
    assert len(heard) == len(small)
    assert {event.delay for event in heard} == {0.001}


def test_files_are_requested_in_parts_where_answers_are_cut_at_a_length(pulling, registry):
    files = {f"{number}.bin": RANDOM.randbytes(1_500_000) for number in range(6)}
    registry.add(docker_artifact(b"GGUF small", extra_files=files), "ai/many", tags=["3"])
    registry.cut_after(300_000, times=None)

    pulled = pulling.pull(registry.reference("ai/many:3"))

    for name, content in files.items():
        assert (pulled.model.view() / name).read_bytes() == content
    # two of each connection before it is known, and the looks whether more comes by now
    assert len(pulling.heard(Retrying)) <= 2 * 3 + 3
    assert registry.count("GET", "blobs") <= 6 * 5 + 2 + 3


def test_refusals_that_pass_are_waited_for(pulling, registry, name):
    registry.answer(503, times=3, on="blob", skip=10)

    pulling.pull(name)

    assert_stored(pulling)
    assert pulling.heard(Retrying)


def test_server_that_refuses_more_than_one_connection_is_asked_by_one_in_the_end(
    pulling, registry, name
):
    pulling.backoff = replace(QUICK, attempts=20)
    busy, handle = threading.Lock(), registry.handle

    def refuse_others(request):
        if request.kind != "blob":
            return handle(request)
        if not busy.acquire(blocking=False):
            registry.answer(429, times=1, on="blob", reference=request.reference)
            return handle(request)
        try:
            return handle(request)
        finally:
            busy.release()

    registry.handle = refuse_others

    pulling.pull(name)

    assert_stored(pulling)


def test_file_that_is_missing_ends_the_pull_and_keeps_what_came(pulling, registry, name):
    missing = sha256(FILES["files/20.bin"])
    registry.remove_blob("ai/many", missing)

    with pytest.raises(NotFoundError) as raised:
        pulling.pull(name)

    assert missing.removeprefix("sha256:")[:12] in raised.value.message
    assert pulling.store.models() == ()
    assert pulling.leftovers == []
    assert MODEL.blobs.keys() > whole(pulling)


def test_wrong_bytes_end_the_pull_and_are_not_kept(pulling, registry, name):
    wrong = sha256(FILES["files/20.bin"])
    registry.corrupt(wrong)

    with pytest.raises(DigestMismatchError) as raised:
        pulling.pull(name)

    assert raised.value.facts["expected"] == wrong
    assert wrong not in whole(pulling)
    assert pulling.store.models() == ()
    assert pulling.leftovers == []


def test_wrong_bytes_that_come_right_the_second_time_do_no_harm(pulling, registry, name):
    registry.corrupt(sha256(FILES["files/20.bin"]), times=1)

    pulling.pull(name)

    assert_stored(pulling)


def test_mirror_with_wrong_bytes_is_left_for_the_registry(store, registry):
    with Registry() as mirror:
        mirror.add(MODEL, "ai/many", tags=["1"])
        mirror.corrupt(sha256(FILES["files/20.bin"]))
        pulling = Pulling(store, mirrors={registry.host: (mirror.url,)})

        pulled = pulling.pull(registry.reference("ai/many:1"))

        assert_stored(pulling)
        assert sum(pulled.origins.values()) >= MODEL.size
        assert registry.bytes_sent(sha256(FILES["files/20.bin"])) == len(FILES["files/20.bin"])


def test_files_come_from_where_the_registry_sends_us(pulling, registry, name):
    with Cdn() as cdn:
        registry.redirect_blobs(cdn)

        pulling.pull(name)

        assert_stored(pulling)


def test_empty_file_comes_too(pulling, registry):
    artifact = docker_artifact(b"GGUF small", extra_files={**FILES, "empty.txt": b""})
    registry.add(artifact, "ai/many", tags=["2"])

    pulled = pulling.pull(registry.reference("ai/many:2"))

    assert (pulled.model.view() / "empty.txt").read_bytes() == b""
    assert pulling.leftovers == []


def test_file_that_is_no_gguf_ends_the_pull(pulling, registry):
    shards = [b"GGUF one", b"GGUF two", b"<html>three", b"GGUF four", b"GGUF five"]
    registry.add(docker_artifact(shards), "ai/shards", tags=["1"])

    with pytest.raises(
        MalformedGGUFError, match=r"00003-of-00005\.gguf is not a GGUF file but a web page"
    ):
        pulling.pull(registry.reference("ai/shards:1"))

    assert pulling.store.models() == ()


# Others, and the end.


def test_two_pulls_at_once_fetch_each_byte_once(registry, name, store):
    registry.slow(1_000_000)
    pullings = [Pulling(store), Pulling(store)]
    threads = [threading.Thread(target=each.pull, args=(name,)) for each in pullings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)

    assert_stored(pullings[0])
    assert registry.bytes_sent() == MODEL.size
    heard = [event for each in pullings for event in each.events]
    brought = [event.digest for event in heard if isinstance(event, Verified)]
    assert sorted(brought) == sorted(MODEL.blobs)
    assert any(isinstance(event, Skipped) for event in heard)


def test_file_that_another_process_brings_is_waited_for_at_the_end(pulling, name):
    content = FILES["files/07.bin"]
    path, others = partial(pulling, content), []
    with open_inside(path, "update") as file:
        lock(file)
        thread = threading.Thread(target=pulling.pull, args=(name,))
        thread.start()
        wait_until(lambda: len(pulling.heard(Verified)) == BLOBS - 1)
        others = whole(pulling)
    thread.join(100)

    assert others == MODEL.blobs.keys() - {sha256(content)}
    assert_stored(pulling)


@contextmanager
def pull_that_stands_still(store, registry, name, **how):
    """A pull in a thread, when all of its connections wait for bytes; what it raises."""
    stall = registry.stall_after(10_000, 60, times=None, on="blob", skip=2)
    raised = []
    puller = Puller(store, Pulling(store).places.source_for, **how)

    def pull():
        try:
            puller.pull(Reference.parse(name))
        except BaseException as exc:  # noqa: BLE001 - looked at by the test
            raised.append(exc)

    thread = threading.Thread(target=pull)
    thread.start()
    stall.wait(60)
    yield raised
    thread.join(60)
    assert not thread.is_alive()


def test_pull_that_is_called_off_ends_at_once(store, registry, name):
    budget = Budget()
    with pull_that_stands_still(store, registry, name, budget=budget) as raised:
        budget.cancel()

    assert [type(each) for each in raised] == [CancelledError]
    registry.calm()
    Pulling(store).pull(name)
    assert_stored(Pulling(store))


def test_pull_whose_time_is_over_ends(store, registry, name):
    until = time.monotonic() + 2
    backoff = Backoff(deadline=until, allowed_s=2)
    with pull_that_stands_still(store, registry, name, backoff=lambda: backoff) as raised:
        pass

    assert [type(each) for each in raised] == [DeadlineError]
    assert raised[0].message == "timed out after 2 s (--timeout)"


def test_listener_that_raises_ends_the_pull(store, registry, name):
    def interrupt(event):
        if isinstance(event, Verified) and event.size == 30_020:
            raise KeyboardInterrupt

    puller = Puller(store, Pulling(store).places.source_for, interrupt)

    with pytest.raises(KeyboardInterrupt):
        puller.pull(Reference.parse(name))

    assert [thread.name for thread in threading.enumerate() if "small" in thread.name] == []
    Pulling(store).pull(name)
    assert_stored(Pulling(store))


def test_disk_that_is_full_ends_the_pull(store, registry, name, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFullError):
        Pulling(store).pull(name)
    assert Pulling(store).leftovers == []


def test_names_are_not_lost_where_the_folder_cannot_be_flushed(pulling, name, monkeypatch):
    def fail(_store):
        raise StoreAccessError("cannot flush")

    monkeypatch.setattr(BlobStore, "settle", fail)
    with pytest.raises(StoreAccessError):
        pulling.pull(name)
    assert pulling.store.models() == ()
