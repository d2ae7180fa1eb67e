"""Which files of a directory are packaged, and in which order."""

from pathlib import Path

import pytest

from modelrunner.errors import UsageError
from modelrunner.operations.directory import scan as scanning
from modelrunner.operations.directory.scan import scan
from tests.support.model_directories import write


def test_files_come_in_the_order_of_a_walk(tmp_path: Path) -> None:
    files = dict.fromkeys(("b.json", "a.json", "a/z.json", "a/b/c.json", "a-b.json"), b"")
    found = scan(write(tmp_path, {**files, "a/.x": b"", ".git/x": b"", "y.tmp": b""}))
    assert [str(file.name) for file in found.files] == [
        "a/b/c.json",
        "a/z.json",
        "a-b.json",
        "a.json",
        "b.json",
    ]
    assert found.left_out == (".git", "a/.x", "y.tmp")


def test_a_directory_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = "/".join(["d"] * 18)
    write(tmp_path / "deep", {f"{deep}/x": b""})
    with pytest.raises(UsageError, match="more than 16 directories inside of each other"):
        scan(tmp_path / "deep")
    monkeypatch.setattr(scanning, "MOST_FILES", 3)
    write(tmp_path / "many", {f"{number}": b"" for number in range(4)})
    with pytest.raises(UsageError, match="has more than 3 files"):
        scan(tmp_path / "many")


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UsageError, match="is a symbolic link, but not to a file"):
        scan(tmp_path)
