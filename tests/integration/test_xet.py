"""The Hub as a source that reads out of Xet storage: part after part, by one client."""

import random
from pathlib import Path

import pytest

from modelrunner.errors import InterruptedTransferError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import NO_RETRY
from modelrunner.registry.huggingface.api import HubApi
from modelrunner.registry.huggingface.source import HuggingFaceHub
from modelrunner.registry.huggingface.xet import PLACE
from modelrunner.registry.settings import HubAccess
from tests.support.hugging_face import Repository, hugging_face
from tests.support.xet_storage import xet_storage

CONTENT = random.Random(5).randbytes(17 * 1024 * 1024)
BLOB = Descriptor("application/octet-stream", Digest.of(CONTENT), len(CONTENT))
NAME = Reference.parse("hf.co/Org/Net:all")
MIB = 1024 * 1024


@pytest.fixture
def storage(tmp_path: Path):
    with xet_storage(tmp_path / "xet") as running:
        yield running


@pytest.fixture
def source(storage):
    with hugging_face() as hub:
        stored = storage.keep(CONTENT)
        hub.repositories["Org/Net"] = Repository({"net.onnx": CONTENT}, xet={"net.onnx": stored})
        hub.xet = storage.url
        api = HubApi(HubAccess(hub.url, xet=True), NO_RETRY, None)
        made = HuggingFaceHub(api, {}, lambda _reference, _sizes: {})
        yield made
        made.close()


def read(source: HuggingFaceHub, offset: int, stop: int | None) -> tuple[str, bytes]:
    wanted = (len(CONTENT) if stop is None else stop) - offset
    with source.open_blob(NAME, BLOB, offset, stop) as stream:
        assert stream.offset == offset
        found = b""
        while len(found) < wanted:
            buffer = bytearray(min(wanted - len(found), 100_000))
            found += buffer[: stream.readinto(memoryview(buffer))]
        return stream.place, found


def test_parts_that_follow_each_other_are_read_by_one_client(source, storage) -> None:
    for begin, stop in ((0, 2 * MIB), (2 * MIB, 2 * MIB + 5), (2 * MIB + 5, None)):
        assert read(source, begin, stop) == (PLACE, CONTENT[begin:stop])
    asked = [line for line in storage.requests if "/reconstructions/" in line]
    assert len(asked) == 1
    # from elsewhere, another one does
    assert read(source, 3 * MIB, 5 * MIB) == (PLACE, CONTENT[3 * MIB : 5 * MIB])
    # a part as small as a header is not worth one
    assert read(source, 0, 1000) == ("", CONTENT[:1000])


def test_storage_that_failed_or_was_wrong_is_not_asked_again(source, storage) -> None:
    assert read(source, 0, 1000) == ("", CONTENT[:1000])
    source.distrust({PLACE: 1})
    assert read(source, 0, 2 * MIB) == ("", CONTENT[: 2 * MIB])
    assert storage.requests == []


def test_client_that_fails_says_why(source, storage) -> None:
    storage.refuses["reconstructions"] = 404
    with pytest.raises(InterruptedTransferError, match=r"^Xet storage: .+; continuing without"):
        read(source, 0, None)
    assert read(source, 0, 2 * MIB) == ("", CONTENT[: 2 * MIB])


def test_a_part_that_is_broken_off_from_here_is_no_failure_of_the_storage(source) -> None:
    def read_aborted() -> None:
        with source.open_blob(NAME, BLOB, 0, None) as stream:
            stream.abort()
            while stream.readinto(memoryview(bytearray(MIB))):
                pass

    with pytest.raises(InterruptedTransferError):
        read_aborted()
    assert read(source, 0, 2 * MIB) == (PLACE, CONTENT[: 2 * MIB])
