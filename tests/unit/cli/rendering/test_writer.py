import io
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.cli.rendering.writer import AnswerWriter, StreamSanitizer, write
from modelrunner.text import sanitize


def through(*pieces: str) -> str:
    sanitizer = StreamSanitizer()
    return "".join(sanitizer.feed(piece) for piece in pieces) + sanitizer.flush()


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (("a\x1b[31mred\x1b[0m",), "ared"),
        (("a\x1b", "[3", "1", "mred"), "ared"),
        (("\x1b]0;own", "ed\x07title"), "title"),
        (("\x1b]8;;http://x\x1b", "\\link\x1b]8;;\x1b\\"), "link"),
        (("\x1b]52;c;", "QUJD", "\x1b\\copied"), "copied"),
        (("\x1bP+q", "544e\x1b\\ok"), "ok"),
        (("one\r\ntwo\rthree\x08\x7f\x9b1m",), "one\ntwothree1m"),
        (("right\u202eleft\u200b",), "rightleft"),
        (("a\tb\n",), "a\tb\n"),
        (("👩‍👩‍👧 naïve 日本",), "👩‍👩‍👧 naïve 日本"),
    ],
)
def test_sequences_vanish_wherever_they_are_cut(pieces: tuple[str, ...], shown: str) -> None:
    assert through(*pieces) == shown


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (("a\x1b",), "a"),
        (("a\x1b[3",), "a[3"),
        (("a\x1b]0;never ", "ended"), "a]0;never ended"),
        (("a\x1b]0;broken\x1b[31m off",), "a]0;broken off"),
        (("a\x1b[é",), "a[é"),
    ],
)
def test_what_is_no_sequence_loses_its_escape_and_nothing_else(
    pieces: tuple[str, ...], shown: str
) -> None:
    assert through(*pieces) == shown


def test_text_that_cannot_be_part_of_a_sequence_is_shown_at_once() -> None:
    sanitizer = StreamSanitizer()
    assert sanitizer.feed("Hello\x1b") == "Hello"
    assert sanitizer.feed("[0m world") == " world"


def test_a_sequence_without_end_does_not_hold_the_answer_back() -> None:
    sanitizer = StreamSanitizer()
    shown = "".join(sanitizer.feed("word ") for _ in range(10))
    shown += sanitizer.feed("\x1b]0;")
    shown += "".join(sanitizer.feed("word ") for _ in range(1000))
    assert shown == "word " * 10 + "]0;" + "word " * 1000


_FRAGMENTS = st.sampled_from(
    [
        *"am[]\\ é\x1b\x07\r\n\x9b\u202e",
        "0;",
        "\x1b[",
        "\x1b[3",
        "\x1b]0;t",
        "\x1b\\",
        "\x1bP",
        "\x1bM",
    ]
)
_TEXT = st.lists(_FRAGMENTS).map("".join)


@given(_TEXT, st.lists(st.integers(min_value=0, max_value=40)))
def test_where_pieces_are_cut_changes_nothing(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    assert through(*(text[a:b] for a, b in pairwise(edges))) == through(text)


@given(_TEXT | st.text())
def test_nothing_unsafe_comes_through(text: str) -> None:
    shown = through(text)
    assert sanitize(shown) == shown
    assert "\x1b" not in shown


@given(st.text(alphabet=st.characters(exclude_characters="\x1b")))
def test_text_without_escapes_is_sanitised_as_everywhere_else(text: str) -> None:
    assert through(text) == sanitize(text)


def written(*pieces: tuple[str, str], colour: bool = False) -> str:
    out = io.StringIO()
    with AnswerWriter(out, out, colour=colour) as writer:
        for text, reasoning in pieces:
            writer.write(text, reasoning)
    return out.getvalue()


def test_thoughts_stand_apart_from_the_answer() -> None:
    assert written(("", "One.\nTwo"), ("", "."), ("Hello", ""), ("!", "")) == (
        "thinking\n| One.\n| Two.\n\nHello!\n"
    )


def test_thoughts_are_dim_where_colour_is_allowed_and_the_answer_is_not() -> None:
    assert written(("", "Hm"), ("Hi", ""), colour=True) == ("\x1b[2mthinking\n| Hm\x1b[0m\n\nHi\n")


def test_thoughts_that_are_cut_leave_the_terminal_as_it_was() -> None:
    out = io.StringIO()
    with suppress(KeyboardInterrupt), AnswerWriter(out, out, colour=True) as writer:
        writer.write("", "Hm")
        raise KeyboardInterrupt
    assert out.getvalue() == "\x1b[2mthinking\n| Hm\x1b[0m\n\n"


def test_thoughts_after_words_start_a_line() -> None:
    assert written(("So", ""), ("", "Hm"), ("Yes", "")) == "So\nthinking\n| Hm\n\nYes\n"


def test_thoughts_cannot_end_their_dimness_themselves() -> None:
    assert written(("", "a\x1b["), ("", "0mb"), ("c", ""), colour=True) == (
        "\x1b[2mthinking\n| ab\x1b[0m\n\nc\n"
    )


@pytest.mark.parametrize(
    ("text", "shown"), [("Hi", "Hi\n"), ("Hi\n", "Hi\n"), ("", ""), ("Hi\x1b[", "Hi[\n")]
)
def test_an_answer_ends_with_one_line_feed(text: str, shown: str) -> None:
    assert written((text, "")) == shown


def test_the_text_is_kept_as_the_model_gave_it() -> None:
    with AnswerWriter(io.StringIO(), None, colour=False) as writer:
        writer.write("a\x1b[31m", "thought")
        writer.write("b", "")
    assert writer.text == "a\x1b[31mb"


def test_letters_that_a_terminal_lacks_become_question_marks() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    write(out, "naïve 日")
    assert raw.getvalue() == b"na?ve ?"
    out.close()
