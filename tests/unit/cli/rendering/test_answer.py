import io
import os
import pty
import re
import sys
import termios
import time
import tty

import pytest

from modelrunner.chat.answer import Done
from modelrunner.cli.rendering.answer import ScreenWriter, Thinking, keys_unseen, writer_for
from modelrunner.cli.rendering.writer import AnswerWriter
from tests.support.screen import Screen


def answer(*pieces: tuple[str, str], thinking: Thinking = "fold", markdown: bool = True) -> Screen:
    screen = Screen()
    writer = ScreenWriter(screen, markdown=markdown, thinking=thinking, colour=False)
    with writer:
        for text, reasoning in pieces:
            writer.write(text, reasoning)
    return screen


def test_a_pipe_gets_the_answer_as_it_is() -> None:
    writer = writer_for(io.StringIO(), markdown=True, thinking="fold", colour=False)
    assert isinstance(writer, AnswerWriter)
    assert isinstance(
        writer_for(Screen(), markdown=True, thinking="fold", colour=False), ScreenWriter
    )


def test_markdown_off_shows_what_was_written() -> None:
    assert answer(("**a", ""), ("**", ""), markdown=False).getvalue() == "**a**\n"


def test_thoughts_fold_to_one_line() -> None:
    screen = answer(("", "I think\nso."), ("Yes.", ""))
    assert "| so." in screen.getvalue()
    assert screen.rows() == ["thought for 0 s, 3 words", "", "Yes.", ""]


def test_thoughts_shown_stay_and_hidden_ones_are_never_seen() -> None:
    pieces = (("<think>I think</think>", ""), ("Yes.", ""))
    assert answer(*pieces, thinking="show").rows() == ["thinking", "| I think", "", "Yes.", ""]
    hidden = answer(*pieces, thinking="hide")
    assert hidden.rows() == ["Yes.", ""]
    assert "think" not in hidden.getvalue()


@pytest.mark.parametrize("markdown", [True, False])
def test_control_sequences_of_the_model_never_reach_the_terminal(markdown: bool) -> None:
    hostile = ("a\x1b]52;c;QQ==\x07", "x\x1b[2J"), ("\x1b[3", ""), ("1m`\x1b[5m`\x9b5n", "")
    told = answer(*hostile, markdown=markdown).getvalue()
    ours = re.sub(r"\x1b\[(\?2026[hl]|[0-9;]*m|K|J|\d+A)", "", told)
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", ours)
    assert "\x1b[2J" not in told
    assert "\x1b[5m" not in told


def test_what_came_last_is_drawn_though_nothing_follows() -> None:
    screen = Screen()
    writer = ScreenWriter(screen, markdown=True, thinking="fold", colour=False)
    with writer:
        writer.write("one", "")
        writer.write(" two", "")
        end = time.monotonic() + 5
        while screen.rows() != ["one two"]:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert writer.text == "one two"


def test_words_that_turn_out_to_be_thoughts_are_folded() -> None:
    screen = answer(("I think\n\nso.", ""), ("\n</think>\n\nYes.", ""))
    assert screen.rows() == ["thought for 0 s, 3 words", "", "Yes.", ""]
    screen = answer(("I think\n\nso.", ""), ("\n</think>\n\nYes.", ""), thinking="hide")
    assert screen.rows() == ["Yes.", ""]


def test_thoughts_that_scrolled_away_before_it_was_known_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "4")
    paragraphs = "".join(f"{number}.\n\n" for number in "abcdef")
    rows = answer((paragraphs, ""), ("</think>Yes.", "")).rows()
    assert rows[-4:] == [
        "(the text above is the model's thoughts; its answer follows)",
        "",
        "Yes.",
        "",
    ]
    plain = answer(("I think.</think>Yes.", ""), markdown=False).getvalue()
    assert plain == (
        "I think.\n(the text above is the model's thoughts; its answer follows)\n\nYes.\n"
    )


def test_thoughts_that_turn_out_to_be_the_answer_are_drawn_as_one() -> None:
    screen = Screen()
    writer = ScreenWriter(screen, markdown=True, thinking="fold", colour=False)
    with writer:
        writer.write("Here is my thought process: *a*, b.", "")
        writer.finish(Done("stop"))
    assert screen.rows() == ["Here is my thought process: a, b.", ""]
    assert writer.text == "Here is my thought process: *a*, b."


def test_a_thought_amid_a_sentence_does_not_tear_it_apart() -> None:
    pieces = (("<think>a</think>Hello <think>b", ""), ("</think>you", ""))
    assert answer(*pieces).rows() == ["thought for 0 s, 1 word", "", "Hello you", ""]


def test_keys_are_signals_again_where_a_prompt_has_left_its_raw_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    with open(slave, closefd=False) as keyboard:
        monkeypatch.setattr(sys, "stdin", keyboard)
        with keys_unseen():
            amid = termios.tcgetattr(slave)[3]
        after = termios.tcgetattr(slave)[3]
    os.close(slave)
    os.close(master)
    assert amid & termios.ISIG
    assert not amid & termios.ECHO
    assert after & (termios.ISIG | termios.ICANON | termios.ECHO) == (
        termios.ISIG | termios.ICANON | termios.ECHO
    )
