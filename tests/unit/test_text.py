import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.text import sanitize, sanitize_line


@pytest.mark.parametrize(
    ("foreign", "safe"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07rest", "rest"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\rb\x08c\x00d\x7fe\x9bf", "abcdef"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("\u202egnp.exe\u200b\ufeff", "gnp.exe"),
        ("héllo 日本語 🎈", "héllo 日本語 🎈"),
    ],
)
def test_what_steers_a_terminal_is_taken_out(foreign: str, safe: str) -> None:
    assert sanitize(foreign) == safe


@given(st.text())
def test_nothing_that_steers_gets_through(foreign: str) -> None:
    assert {mark for mark in sanitize(foreign) if unicodedata.category(mark) == "Cc"} <= {
        "\n",
        "\t",
    }


@given(st.text())
def test_a_line_is_one_line_and_not_too_long(foreign: str) -> None:
    line = sanitize_line(foreign, 20)
    assert len(line) <= 20
    assert "\n" not in line


def test_a_line_that_is_cut_says_so() -> None:
    assert sanitize_line("abcdef ghi", 6) == "abcde…"
    assert sanitize_line("  a \n b\t c ") == "a b c"
