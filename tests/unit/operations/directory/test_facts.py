"""What the headers of weights say, and what hostile ones do not."""

import json
import struct
from pathlib import Path

import pytest

from modelrunner.errors import MalformedManifestError
from modelrunner.operations.directory.facts import safetensors_header
from tests.support.model_directories import safetensors


def test_a_header_names_the_tensors(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(safetensors({"a": (2, 3)}, "F16", {"format": "pt"}))
    assert safetensors_header(file, file.name) == {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 100) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 3) + b"{]}",
        struct.pack("<Q", 400_000) + b'{"a":' + b"[" * 399_995,
        struct.pack("<Q", len(json.dumps("a"))) + json.dumps("a").encode(),
    ],
)
def test_what_is_not_a_header_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(MalformedManifestError, match=r"x\.safetensors is not a valid safetensors"):
        safetensors_header(file, "x.safetensors")
