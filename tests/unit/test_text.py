import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.text import available, closest, did_you_mean, mask, sanitize, sanitize_line


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


@pytest.mark.parametrize(
    ("wanted", "known", "found"),
    [
        ("lst", ["list", "load", "lock"], ["list"]),
        ("Smolm2", ["smollm2", "smollm3", "smolvlm"], ["smollm2"]),
        ("rtx 4071", ["RTX 4070", "RTX 4090", "L4"], ["RTX 4070"]),
        ("gran", ["granite-4.0-micro", "gemma3"], ["granite-4.0-micro"]),
        ("gr", ["granite-4.0-micro", "gemma3"], []),
        ("status", ["tags", "stop"], []),
        ("foo", ["tools", "load"], []),
        ("", ["a"], []),
        ("a", [], []),
    ],
)
def test_what_is_spelled_alike_is_found(wanted: str, known: list[str], found: list[str]) -> None:
    assert closest(wanted, known) == found


@pytest.mark.parametrize(
    ("names", "question"),
    [
        ([], None),
        (["a"], "did you mean `a`?"),
        (["a", "b"], "did you mean `a` or `b`?"),
        (["a", "b", "c"], "did you mean `a`, `b` or `c`?"),
    ],
)
def test_the_question_has_one_form(names: list[str], question: str | None) -> None:
    assert did_you_mean(names) == question


def test_a_long_list_is_counted_not_printed() -> None:
    assert (
        available([str(number) for number in range(96)], 3)
        == "available: `0`, `1`, `2` and 93 more"
    )
    numbers = [str(number) for number in range(96)]
    assert available(numbers, 3) == "available: `0`, `1`, `2` and 93 more"
    assert available(["a"]) == "available: `a`"


def test_a_secret_that_begins_with_another_is_masked_whole(monkeypatch):
    monkeypatch.setattr("modelrunner.text._secrets", set())
    mask("masked-word")
    mask("masked-word-and-more")
    assert sanitize_line("of masked-word-and-more and masked-word") == "of *** and ***"
