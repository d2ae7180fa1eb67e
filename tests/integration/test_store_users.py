"""One store of two users: what one has begun, the other goes on with."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.journal import Journal
from modelrunner.store.store import Store
from modelrunner.store.sweep import sweep
from tests.support.artifacts import docker_artifact
from tests.support.stores import put

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can be two users"
)
FIRST, SECOND, GROUP = 61_001, 61_002, 61_000
CONTENT = bytes(range(256)) * 1024
HALF = len(CONTENT) // 2
BLOB = Descriptor("application/x", Digest.of(CONTENT), len(CONTENT))


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory of a group, reachable by its users: those of the tests are private."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "store").mkdir()
    os.chown(folder / "store", 0, GROUP)
    (folder / "store").chmod(0o2775)
    yield folder / "store"
    shutil.rmtree(folder)


@contextmanager
def user(uid: int, umask: int) -> Iterator[None]:
    """The block in which this process is another user, of the group."""
    groups, before = os.getgroups(), os.umask(umask)
    os.setgroups([GROUP])
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.umask(before)


def begin(store: Store) -> None:
    with suppress(KeyboardInterrupt), store.blobs.writer(BLOB) as writer:
        writer.write(CONTENT[:HALF])
        raise KeyboardInterrupt


def go_on(store: Store) -> None:
    with store.blobs.writer(BLOB) as writer:
        assert writer.offset == HALF
        writer.write(CONTENT[HALF:])


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_user_goes_on_with_anothers_download(shared, umask):
    with user(FIRST, umask):
        store = Store(shared)
        put(store, docker_artifact(b"GGUF weights"), "ai/m:1")
        begin(store)
    with user(SECOND, umask):
        go_on(Store(shared))
        assert Store(shared).blobs.deep_state(BLOB) == "good"
    with user(FIRST, umask):
        assert Store(shared).blobs.deep_state(BLOB) == "good"


def test_a_user_takes_a_download_over_that_only_its_owner_may_write(shared):
    with user(FIRST, 0o002):
        store = Store(shared)
        store.layout.create()
        begin(store)
        partial, journal = store.layout.partial(BLOB.digest), store.layout.journal(BLOB.digest)
        Journal(journal, BLOB.size, HALF).close()
        for file in (partial, journal):
            file.chmod(0o644)
    with user(SECOND, 0o002):
        with Journal(journal, BLOB.size, HALF) as notes:
            notes.reset()
            notes.add(0)
            assert notes.load() == [0]
        journal.unlink()
        go_on(Store(shared))
        assert Store(shared).blobs.deep_state(BLOB) == "good"
    assert Store(shared).blobs.path(BLOB.digest).stat().st_uid == SECOND
    assert list(shared.rglob(".tmp-*")) == []


def test_a_user_changes_and_removes_what_another_has_stored(shared):
    with user(FIRST, 0o077):
        path = put(Store(shared), docker_artifact(b"GGUF weights"), "ai/m:1").weights()
    with user(SECOND, 0o077):
        store = Store(shared)
        assert store.resolve("ai/m:1").weights() == path
        assert path.read_bytes() == b"GGUF weights"
        put(store, docker_artifact(b"others"), "ai/m:1")
        sweep(store, partials=True)
        assert not path.parent.exists()
