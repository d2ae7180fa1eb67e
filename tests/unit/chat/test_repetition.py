from collections.abc import Iterator
from itertools import repeat

import pytest

from modelrunner.chat.answer import Delta, Done
from modelrunner.chat.repetition import LoopDetector, until_repeated


def seen_after(text: str, step: int = 5) -> int | None:
    """After how many characters a loop is noticed; None if never."""
    detector = LoopDetector()
    for start in range(0, len(text), step):
        if detector.feed(text[start : start + step]):
            return start + step
    return None


PARAGRAPH = " ".join(f"This is sentence {number} of the paragraph." for number in range(20)) + "\n"


@pytest.mark.parametrize(
    ("passage", "most"),
    [
        ("I am a language model. ", 3_500),
        ("The user asks what it is, and the answer is that it is. ", 5_000),
        ("no ", 3_000),
        (PARAGRAPH, 8_000),
        ("0, ", 14_000),
        ("\n", 14_000),
        ("| 0 | 0 |\n", 14_000),
    ],
)
def test_a_loop_is_noticed(passage: str, most: int) -> None:
    text = "An answer that begins well. " + passage * (20_000 // len(passage))
    found = seen_after(text)
    assert found is not None
    assert found <= most


@pytest.mark.parametrize(
    "text",
    [
        "I will not talk in class.\n" * 100,
        "All work and no play makes Jack a dull boy.\n" * 90,
        "0, " * 2_000,
        ("0 " * 50 + "\n") * 50,
        "| name | 0 | 0 | 0 |\n" * 300,
        "".join(f"| row {number} | 0 | 0 | 0 |\n" for number in range(2_000)),
        "".join(f"{number}. The same words again.\n" for number in range(1_000)),
        "```html\n" + '<div class="item">item</div>\n' * 300 + "```\n",
        "-" * 4_000,
        PARAGRAPH * 5,
        "",
    ],
)
def test_what_people_ask_for_is_no_loop(text: str) -> None:
    assert seen_after(text) is None


def test_a_loop_that_ended_is_none() -> None:
    text = "I see. " * 250 + "And then it went on with something new. " + PARAGRAPH
    assert seen_after(text, step=1) is None


def test_the_size_of_pieces_does_not_matter() -> None:
    text = "the same words again. " * 600
    found = [seen_after(text, step) for step in (1, 7, 64)]
    assert all(each is not None and each < 6_000 for each in found)


def test_an_endless_answer_ends() -> None:
    pieces: Iterator[Delta | Done] = repeat(Delta("over and over ", ""))
    *_, last = until_repeated(pieces)
    assert last == Done("repetition")


def test_endless_thoughts_end() -> None:
    pieces: Iterator[Delta | Done] = repeat(Delta("", "wait, let me think. "))
    *_, last = until_repeated(pieces)
    assert last == Done("repetition")


def test_an_answer_that_ends_by_itself_keeps_its_end() -> None:
    pieces = [Delta("Hello", ""), Done("stop")]
    assert list(until_repeated(iter(pieces))) == pieces
