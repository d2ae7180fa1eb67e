import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelrunner.cli.chat.attachments import LIMIT, FilledMessage, insert_files
from modelrunner.errors import UsageError


def test_a_mention_stands_for_the_content_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alpha")
    (tmp_path / "b c.txt").write_text("beta")
    assert insert_files('say @a.txt and @"b c.txt" now', tmp_path) == FilledMessage(
        "say alpha and beta now", ()
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_the_content_is_inserted_exactly(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").write_bytes(content.encode())
    assert insert_files("<\n@x\n>", tmp_path).text == f"<\n{content}\n>"


@pytest.mark.parametrize("content", [r"$1 ${name} \1 \g<0> \n", "a\r\nb\r\n", "see @x and @y\n"])
def test_nothing_in_a_file_is_special(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").write_bytes(content.encode())
    (tmp_path / "y").write_text("never")
    assert insert_files("@x", tmp_path) == FilledMessage(content, ())


@pytest.mark.parametrize("mark", [".", ",", "?", "),"])
def test_punctuation_after_a_path_belongs_to_the_sentence(tmp_path: Path, mark: str) -> None:
    (tmp_path / "a.txt").write_text("alpha")
    assert insert_files(f"read @a.txt{mark} please", tmp_path).text == f"read alpha{mark} please"


def test_a_file_whose_name_ends_in_punctuation_is_meant_if_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("wrong")
    (tmp_path / "a.").write_text("right")
    assert insert_files("@a.", tmp_path).text == "right"


@pytest.mark.parametrize("text", ["me@example.org", "a@b", "@", '@""', "@ x", "x @"])
def test_an_at_sign_that_begins_no_path_is_none(tmp_path: Path, text: str) -> None:
    assert insert_files(text, tmp_path) == FilledMessage(text, ())


def test_a_path_that_is_no_file_is_told_and_sent_as_typed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    long = "n" * 5000
    text = f'@nowhere @folder @pipe @"no where" @~nobody-here/x @{long}'
    assert insert_files(text, tmp_path) == FilledMessage(
        text, ("nowhere", "folder", "pipe", "no where", "~nobody-here/x", long)
    )


def test_home_is_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("alpha")
    assert insert_files("@~/a.txt", Path("/")).text == "alpha"


def test_a_file_up_to_the_limit_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(b"x" * LIMIT)
    (tmp_path / "over").write_bytes(b"x" * (LIMIT + 1))
    assert insert_files("@full", tmp_path).text == "x" * LIMIT
    with pytest.raises(UsageError) as caught:
        insert_files("@over", tmp_path)
    assert caught.value.message == (
        f"{tmp_path}/over is larger than 256.00 KiB, the limit of a message"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"abc\xff", "invalid UTF-8 at byte 3"), (b"a\0b", "it has NUL bytes")],
)
def test_a_binary_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        insert_files("what is @x.bin?", tmp_path)
    assert caught.value.message == f"{tmp_path}/x.bin is not a text file ({reason})"
