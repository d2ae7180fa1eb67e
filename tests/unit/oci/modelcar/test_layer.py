"""A layer with one file: a tar that every reader understands, the same wherever it is made."""

import hashlib
import io
import tarfile
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.oci.modelcar.layer import PAGE, head, tail

CONTENT = b"GGUF" + bytes(range(256)) * 3


def layer(path: str, content: bytes = CONTENT) -> bytes:
    size = len(content)
    return head(PurePosixPath(path), size) + content + tail(size)


def members(raw: bytes) -> list[tuple[str, int, int, int, int, int, str]]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        return [
            (each.name, each.type[0], each.mode, each.mtime, each.uid, each.gid, each.uname)
            for each in archive
        ]


def test_a_layer_is_the_file_and_its_directories_without_times_or_owners() -> None:
    assert members(layer("deep/model.gguf")) == [
        ("models", ord("5"), 0o755, 0, 0, 0, ""),
        ("models/deep", ord("5"), 0o755, 0, 0, 0, ""),
        ("models/deep/model.gguf", ord("0"), 0o644, 0, 0, 0, ""),
    ]


def test_the_bytes_of_a_layer_never_change() -> None:
    # registries and nodes share layers by this digest: another one would be uploaded again
    digest = hashlib.sha256(layer("model.gguf")).hexdigest()
    assert digest == "133950da7bafb6826f4532661db1bbbe28b7ae1114538e7a8108e62fae089bd4"


@given(
    st.lists(st.text("aé-. x", min_size=1, max_size=120), min_size=1, max_size=4).filter(
        lambda parts: not {".", ".."} & set(parts)
    ),
    st.binary(max_size=2000),
)
def test_any_name_and_content_come_back(parts: list[str], content: bytes) -> None:
    path = "/".join(parts)
    raw = layer(path, content)
    assert len(head(PurePosixPath(path), len(content))) % PAGE == 0
    assert len(raw) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        name = f"models/{PurePosixPath(path)}"
        file = archive.extractfile(name)
        assert file is not None
        assert file.read() == content


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 1 << 42])
def test_sizes_beyond_the_digits_of_a_header_are_said(size: int) -> None:
    raw = head(PurePosixPath("huge.gguf"), size)
    assert len(raw) % PAGE == 0
    with tarfile.open(fileobj=io.BytesIO(raw + bytes(1024))) as archive:
        archive.next()
        found = archive.next()
        assert found is not None
        assert (found.name, found.size) == ("models/huge.gguf", size)
        assert found.offset_data == len(raw)
