"""Files in layers that are far away: found by their headers, read in parts, with limits."""

import gzip
import random

import pytest

from modelrunner.archives import members
from modelrunner.archives.members import find_members
from modelrunner.errors import HeaderTooLongError, IntegrityError
from tests.support.images import Item, symlink, tar_of

LARGE = random.Random(1).randbytes(9 * 1024 * 1024)
TAR = tar_of(
    [
        Item("models/notes.txt", b"text"),
        Item("models/a.gguf", LARGE),
        symlink("models/link.gguf", "a.gguf"),
        Item("models/b.gguf", b"small"),
    ]
)


class Remote:
    """A layer, and what was read of it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.read_bytes = 0
        self.requests = 0

    def read(self, offset: int, length: int) -> bytes:
        found = self.content[offset : offset + length]
        self.read_bytes += len(found)
        self.requests += 1
        return found

    def find(self) -> members.Members:
        return find_members(self.read, len(self.content), lambda name: name.endswith(".gguf"))


def test_plain_layer_is_read_by_its_headers_alone():
    remote = Remote(TAR)
    found = remote.find()
    assert found.is_complete
    assert [(file.name, file.size) for file in found.files] == [
        ("models/a.gguf", len(LARGE)),
        ("models/b.gguf", 5),
    ]
    assert remote.requests == 3
    first, second = found.files
    assert first.read(1000, 10) == LARGE[1000:1010]
    assert first.read(len(LARGE) - 3, 10) == LARGE[-3:]
    assert second.read(0, 100) == b"small"


def test_packed_layer_is_read_as_far_as_the_first_large_file():
    remote = Remote(gzip.compress(TAR, 1))
    found = remote.find()
    assert [(file.name, found.is_complete) for file in found.files] == [("models/a.gguf", False)]
    assert remote.read_bytes < 1024 * 1024
    (file,) = found.files
    assert file.read(1000, 10) == LARGE[1000:1010]
    small = Remote(gzip.compress(tar_of([Item("a.gguf", b"one"), Item("b.gguf", b"two")])))
    both = small.find()
    assert (both.is_complete, [file.read(0, 9) for file in both.files]) == (True, [b"one", b"two"])


def test_header_beyond_the_limit_is_not_read(monkeypatch):
    monkeypatch.setattr(members, "PACKED_LIMIT", 2 * 1024 * 1024)
    (file,) = Remote(gzip.compress(TAR, 1)).find().files
    assert file.read(0, 10) == LARGE[:10]
    with pytest.raises(HeaderTooLongError, match=r"not in the first 2\.00 MiB of the layer") as no:
        file.read(8 * 1024 * 1024, 10)
    assert no.value.hint == "pull the model: then all of it is read"
    hidden = tar_of([Item("noise", LARGE), Item("a.gguf", b"behind it")])
    assert Remote(gzip.compress(hidden, 1)).find().files == ()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_no_more_is_held_of_all_layers_than_there_is_room_for(compress):
    layer = compress(tar_of([Item(f"{number}.gguf", bytes(12288)) for number in range(20)]))
    # 4096 bytes each beside their own, of which a plain layer has none
    room = members.Room(7 * 16384 if compress is gzip.compress else 7 * 4096)
    found = [
        find_members(Remote(layer).read, len(layer), lambda _name: True, room) for _ in range(2)
    ]
    assert [(len(each.files), each.is_complete) for each in found] == [(7, False), (0, False)]


def test_many_small_files_are_not_asked_for_one_by_one():
    many = tar_of([Item(f"usr/{number}", b"x" * 3000) for number in range(3000)])
    remote = Remote(many)
    assert not remote.find().is_complete
    assert remote.requests <= 66


@pytest.mark.parametrize(
    "content",
    [b"text" * 1000, TAR[:5000], gzip.compress(TAR, 1, mtime=0)[:100]],
    ids=["text", "cut", "cut in gzip"],
)
def test_what_is_damaged_is_said(content: bytes):
    with pytest.raises(IntegrityError):
        Remote(content).find()
