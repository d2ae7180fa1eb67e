import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.chat.thoughts import ThoughtSplitter


def split(*pieces: str) -> tuple[str, str]:
    splitter = ThoughtSplitter()
    parts = [*(splitter.feed(piece) for piece in pieces), splitter.flush()]
    return "".join(words for words, _ in parts), "".join(thoughts for _, thoughts in parts)


@pytest.mark.parametrize(
    ("text", "words", "thoughts"),
    [
        ("Hello", "Hello", ""),
        ("<think>Hm.</think>Hello", "Hello", "Hm."),
        ("\n<think>\nHm.\n</think>\n\nHello", "Hello", "\nHm.\n"),
        ("<think></think>Hello", "Hello", ""),
        ("<think>never ends", "", "never ends"),
        ("<thinly veiled", "<thinly veiled", ""),
        ("<thi", "<thi", ""),
        ("The tag <think>is</think> shown", "The tag <think>is</think> shown", ""),
        ("<think>a</b></think>c", "c", "a</b>"),
        ("", "", ""),
        ("  ", "  ", ""),
    ],
)
def test_thoughts_at_the_start_are_told_apart_wherever_they_are_cut(
    text: str, words: str, thoughts: str
) -> None:
    assert split(text) == (words, thoughts)
    assert split(*text) == (words, thoughts)


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "/think>", "a ", "b"])))
def test_without_thoughts_nothing_is_lost(pieces: list[str]) -> None:
    assert split("x", *pieces) == ("x" + "".join(pieces), "")


def test_a_thought_is_told_while_it_comes() -> None:
    splitter = ThoughtSplitter()
    assert splitter.feed("<think>It may <") == ("", "It may ")
    assert splitter.feed("b>") == ("", "<b>")
