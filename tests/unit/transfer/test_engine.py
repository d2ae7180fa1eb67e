"""What the engine does when its sources do what no source should."""

import pytest

from modelrunner.events import ignore
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import NO_RETRY
from modelrunner.transfer.engine import Engine

CONTENT = bytes(100_000)
BLOB = Descriptor("application/octet-stream", Digest.of(CONTENT), len(CONTENT))


@pytest.mark.timeout(20)
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
