"""What the engine does when its sources do what no source should."""

import threading
from contextlib import contextmanager
from threading import Event, Lock

import pytest

from modelrunner.errors import RegistryUnavailableError
from modelrunner.events import Advanced, ignore
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import NO_RETRY
from modelrunner.registry.source import BlobStream
from modelrunner.transfer.budget import Budget
from modelrunner.transfer.engine import Engine
from modelrunner.transfer.limits import Limits
from modelrunner.transfer.worker import Worker

CONTENT = bytes(100_000)
PIECE = 50_000
BLOB = Descriptor("application/octet-stream", Digest.of(CONTENT), len(CONTENT))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bug", [ValueError("bug"), AssertionError("bug"), MemoryError()])
def test_bug_in_a_connection_looks_like_a_bug_and_not_like_a_hang(tmp_path, bug):
    def open_source():
        raise bug

    engine = Engine(Reference.parse("ai/m:1"), open_source, ignore, backoff=NO_RETRY)
    with (tmp_path / "x.partial").open("w+b") as file, pytest.raises(type(bug)):
        engine.fill(BLOB, file, tmp_path / "x.journal", ignore)


def test_empty_blob_needs_no_connection(tmp_path):
    def open_source():
        raise AssertionError("nothing is to be fetched")

    nothing = Descriptor("application/octet-stream", Digest.of(b""), 0)
    engine = Engine(Reference.parse("ai/m:1"), open_source, ignore, backoff=NO_RETRY)
    with (tmp_path / "x.partial").open("w+b") as file:
        arrived = engine.fill(nothing, file, tmp_path / "x.journal", ignore)
    assert arrived.digest == nothing.digest
    assert arrived.downloaded == 0


class OneLosesItsHalf:
    """Delivers from two connections; the first of them is lost in the middle of its piece."""

    name = "registry"

    def __init__(self):
        self.sent = 0
        self._lock = Lock()
        self._both, self._lost = Event(), Event()
        self._failed = False

    @contextmanager
    def open_blob(self, reference, descriptor, start, stop):
        yield _Half(self, start, stop)

    def read(self, view, start, at, stop):
        if start == 0 and not self._failed:
            assert self._both.wait(10)
            if at >= PIECE // 2:
                self._failed = True
                self._lost.set()
                raise RegistryUnavailableError("gone")
            stop = PIECE // 2
        elif start == PIECE:
            self._both.set()
            assert self._lost.wait(10)
        count = min(len(view), stop - at)
        view[:count] = CONTENT[at : at + count]
        with self._lock:
            self.sent += count
        return count

    def close(self):
        pass


class _Half:
    place = "registry"
    arriving = False
    latency_s = None

    def __init__(self, source, start, stop):
        self._source, self._start, self._at, self._stop = source, start, start, stop

    def readinto(self, view):
        count = self._source.read(view, self._start, self._at, self._stop)
        self._at += count
        return count

    def waiting(self):
        return 0

    def abort(self):
        pass


def two_connections(source, listener):
    return Engine(
        Reference.parse("ai/m:1"), lambda: source, listener, Budget(Limits(2)), NO_RETRY, PIECE
    )


@pytest.mark.timeout(120)
def test_half_a_piece_that_a_lost_connection_has_brought_is_not_fetched_again(tmp_path):
    source = OneLosesItsHalf()
    engine = two_connections(source, ignore)
    with (tmp_path / "x.partial").open("w+b") as file:
        arrived = engine.fill(BLOB, file, tmp_path / "x.journal", ignore)
    assert arrived.digest == BLOB.digest
    assert source.sent == len(CONTENT)
    assert (arrived.downloaded, arrived.resumed) == (len(CONTENT), 0)


@pytest.mark.timeout(120)
def test_a_transfer_whose_last_connection_ended_with_all_bytes_has_not_failed(tmp_path):
    def wait_for_connections(event):
        # the last of them brings everything between two looks of the thread that watches
        if isinstance(event, Advanced) and event.done:
            for thread in threading.enumerate():
                if thread.name.startswith("connection-"):
                    thread.join(10)

    source = OneLosesItsHalf()
    engine = two_connections(source, wait_for_connections)
    with (tmp_path / "x.partial").open("w+b") as file:
        arrived = engine.fill(BLOB, file, tmp_path / "x.journal", ignore)
    assert arrived.digest == BLOB.digest


def test_a_signal_that_comes_while_a_connection_is_started_ends_the_transfer(tmp_path, monkeypatch):
    def interrupted(_worker):
        raise SystemExit(143)

    monkeypatch.setattr(Worker, "start", interrupted)
    engine = Engine(Reference.parse("ai/m:1"), OneLosesItsHalf, ignore, backoff=NO_RETRY)
    with (
        (tmp_path / "x.partial").open("w+b") as file,
        pytest.raises(SystemExit, match="143"),
    ):
        engine.fill(BLOB, file, tmp_path / "x.journal", ignore)


class FarAway:
    """A source whose answers take long, as it says."""

    name = "registry"

    def __init__(self):
        self.opened = []

    @contextmanager
    def open_blob(self, reference, descriptor, start, stop):
        self.opened.append((start, stop))
        at = start

        def fill(view):
            nonlocal at
            count = min(len(view), stop - at)
            view[:count] = bytes(count)
            at += count
            return count

        yield BlobStream(start, fill, latency_s=0.05)

    def close(self):
        pass


@pytest.mark.timeout(120)
@pytest.mark.parametrize("limits", [Limits(), Limits(connections=8), Limits(rate=10**9)])
def test_next_run_of_a_server_that_is_far_away_is_requested_before_the_last_ends(tmp_path, limits):
    size, source, ahead = 64 * PIECE, FarAway(), []
    blob = Descriptor("application/octet-stream", Digest.of(bytes(size)), size)
    engine = Engine(
        Reference.parse("ai/m:1"), lambda: source, ignore, Budget(limits), NO_RETRY, PIECE,
        request_next=ahead.append,
    )  # fmt: skip
    with (tmp_path / "x.partial").open("w+b") as file:
        arrived = engine.fill(blob, file, tmp_path / "x.journal", ignore)
    assert arrived.digest == blob.digest
    # not where that may be one connection, or some bytes, more than is allowed
    assert bool(ahead) == (limits == Limits())
    assert set(ahead) <= set(source.opened)
