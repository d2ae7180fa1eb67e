"""How the ends of a copy are written."""

from pathlib import Path

import pytest

from modelrunner.errors import UsageError
from modelrunner.operations.copy.ends import End, parse_end

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ai/m:1", End("registry", "ai/m:1")),
        ("docker://ai/m:1", End("registry", "ai/m:1")),
        ("hf.co/a/b", End("registry", "hf.co/a/b")),
        ("local/m", End("store", "local/m")),
        (HEX, End("store", HEX)),
        (f"sha256:{HEX}", End("store", f"sha256:{HEX}")),
        ("store:ai/m:1", End("store", "ai/m:1")),
        ("archive:m.tar", End("archive", "", Path("m.tar"))),
        ("oci-archive:a/m.tar:ai/m:1", End("archive", "ai/m:1", Path("a/m.tar"))),
        ("dir:out:r.example:5000/m:1", End("dir", "r.example:5000/m:1", Path("out"))),
        ("oci:/out", End("dir", "", Path("/out"))),
        ("archive:C:\\m.tar:x", End("archive", "x", Path("C:\\m.tar"))),
    ],
)
def test_ends(text, expected):
    assert parse_end(text) == expected


@pytest.mark.parametrize("text", ["store:", "docker://", "archive:", "dir::x"])
def test_prefix_alone_is_refused(text):
    with pytest.raises(UsageError, match="nothing after"):
        parse_end(text)
