import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.chat.turn_end import END_MARKERS, START_MARKERS, TurnEnd

CHATML = ("<|im_end|>", "<|im_start|>")
ALL = (*END_MARKERS, *START_MARKERS)


def through(text: str, *, anywhere: bool, markers: tuple[str, ...] = ALL, step: int = 0) -> str:
    """What is shown of a text that comes in pieces of so many characters."""
    end, shown = TurnEnd(markers, anywhere=anywhere), ""
    step = step or len(text) or 1
    for start in range(0, len(text), step):
        sure, over = end.feed(text[start : start + step])
        shown += sure
        if over:
            return shown
    return shown + end.flush()


@pytest.mark.parametrize("step", [1, 3, 0])
@pytest.mark.parametrize("marker", ALL)
def test_without_a_template_every_marker_ends_the_answer(marker: str, step: int) -> None:
    assert through(f"Paris. {marker} more", anywhere=True, step=step) == "Paris. "


def test_html_that_strikes_out_goes_on_without_a_template_too() -> None:
    text = "<p><s>five</s> four, <s>three</s></p>"
    assert through(text, anywhere=True, step=1) == text
    assert through(f"{text}</s>[INST]", anywhere=True, step=1) == text


@pytest.mark.parametrize("step", [1, 4, 0])
@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("Paris.<|im_end|>", "Paris."),
        ("Paris.<|im_end|>\n<|im_start|>user\nAnd Rome?", "Paris."),
        ("Paris.<|im_end|><|im_start|>user\nAnd Rome?", "Paris."),
        ("Paris.\n<|im_start|>user\nAnd Rome?", "Paris.\n"),
        ("Paris.\n<|im_end|>\n", "Paris.\n"),
    ],
)
def test_a_marker_between_two_turns_ends_the_answer(answer: str, shown: str, step: int) -> None:
    assert through(answer, anywhere=False, markers=CHATML, step=step) == shown


@pytest.mark.parametrize("step", [1, 4, 0])
@pytest.mark.parametrize(
    "answer",
    [
        "A turn begins with <|im_start|> and ends with <|im_end|> in ChatML.",
        "It ends with `<|im_end|>`\nand begins with `<|im_start|>user`.",
        "```\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n```\nThat is it.",
        "~~~text\nHi<|im_end|>\n~~~\n",
        "- <|im_end|>\n- <|im_start|>\n",
        "The first is <|im_start|>, as in <|im_start|>user.",
        "1 < 2 and <|im",
        "",
    ],
)
def test_a_mention_goes_on(answer: str, step: int) -> None:
    assert through(answer, anywhere=False, markers=CHATML, step=step) == answer


@given(st.text(alphabet="<|im_end|>start user\n`", max_size=80), st.integers(1, 9))
def test_pieces_change_nothing(text: str, step: int) -> None:
    for anywhere in (True, False):
        whole = through(text, anywhere=anywhere, markers=CHATML)
        assert through(text, anywhere=anywhere, markers=CHATML, step=step) == whole
        assert text.startswith(whole)


def test_without_markers_everything_goes_on_at_once() -> None:
    assert TurnEnd((), anywhere=True).feed("a < b <|im_end|>") == ("a < b <|im_end|>", False)
