import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.chat.thoughts import Opening, Part, ThoughtSplitter, opening_of


def split(
    *pieces: str, opening: Opening = Opening.UNKNOWN, complete: bool = True
) -> tuple[str, str]:
    """The words and the thoughts of an answer, as they stand in the end."""
    splitter = ThoughtSplitter(opening)
    words = thoughts = since = ""
    parts = [part for piece in pieces for part in splitter.feed(piece)]
    for part in [*parts, *splitter.flush(complete=complete)]:
        match part.kind:
            case "words":
                words, since = words + part.text, ""
            case "thoughts":
                thoughts, since = thoughts + part.text, since + part.text
            case "words_were_thoughts":
                words, thoughts = "", words + thoughts
            case "thoughts_were_words":
                words, thoughts = words + part.text, thoughts.removesuffix(since)
    return words, thoughts


FENCED = "Write:\n\n```html\n</think>\n```\n\nThat is `</think>` and\n\n    </think>\n"
HARMONY = (
    "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>"
    "I look.<|end|><|start|>assistant<|channel|>final<|message|>Hello<|return|>"
)


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
        # other spellings
        ("<thinking>Hm.</thinking>Hello", "Hello", "Hm."),
        ("<thought>Hm.</thought>Hello", "Hello", "Hm."),
        ("<reasoning>Hm.</reasoning>Hello", "Hello", "Hm."),
        ("<THINK>Hm.</Think>Hello", "Hello", "Hm."),
        ("<seed:think>Hm.</seed:think>Hello", "Hello", "Hm."),
        ("[THINK]Hm.[/THINK]Hello", "Hello", "Hm."),
        (
            "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Hello<|END_RESPONSE|>",
            "Hello",
            "Hm.",
        ),
        ("<|channel>thought\nHm.<channel|>Hello", "Hello", "\nHm."),
        ("◁think▷Hm.◁/think▷Hello", "Hello", "Hm."),
        (HARMONY, "Hello", "Hm.\nI look.\n"),
        ("<|channel|>analysis<|message|>never ends", "", "never ends"),
        ("<|channel|>final<|message|>Hello <b>", "Hello <b>", ""),
        ("analysisHm.assistantfinalHello", "Hello", "Hm."),
        ("analysis of the text", "analysis of the text", ""),
        ("Here is my thought process: Hm.\nHere is my response:\nHello", "Hello", " Hm.\n"),
        ("Here's my thought process: a, b.", "Here's my thought process: a, b.", ""),
        # the prompt opened the tag
        ("Hm.\n</think>\n\nHello", "Hello", "Hm.\n"),
        ("Hm.[/THINK]Hello", "Hello", "Hm."),
        ("Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello", "Hello", None),
        ("</think>Hello", "Hello", ""),
        # more than one thought
        ("<think>A</think>Hello <think>B</think>you", "Hello you", "AB"),
        ("<think>A</think><think>B</think>Hello", "Hello", "AB"),
        ("<think>A</think>The tag <think> opens", "The tag <think> opens", "A"),
        # tags that the answer speaks of
        (FENCED, FENCED, ""),
        (f"<think>A</think>{FENCED}", FENCED, "A"),
        ("<think>A</think>Write `<think>a</think>`.", "Write `<think>a</think>`.", "A"),
    ],
)
def test_thoughts_are_told_apart_wherever_they_are_cut(
    text: str, words: str, thoughts: str | None
) -> None:
    whole, single = split(text), split(*text)
    assert whole == single
    assert whole[0] == words
    assert thoughts is None or whole[1] == thoughts


@pytest.mark.parametrize("text", ["Hm.</think>Hello", "Hm. </b> </think>Hello", "</think>Hello"])
def test_an_answer_to_a_prompt_that_opens_a_thought_begins_with_one(text: str) -> None:
    splitter = ThoughtSplitter(Opening.BY_PROMPT)
    parts = [part for piece in text for part in splitter.feed(piece)]
    assert {part.kind for part in parts} <= {"words", "thoughts"}
    assert "".join(part.text for part in parts if part.kind == "words") == "Hello"


def test_an_opened_thought_that_does_not_end_is_the_answer_unless_it_was_cut() -> None:
    assert split("Hello", opening=Opening.BY_PROMPT) == ("Hello", "")
    assert split("Hello", opening=Opening.BY_PROMPT, complete=False) == ("", "Hello")
    assert split("<think>Hm", opening=Opening.BY_PROMPT) == ("", "Hm")


def test_a_server_that_splits_thoughts_has_no_more_of_them_in_the_answer() -> None:
    splitter = ThoughtSplitter(Opening.BY_PROMPT)
    assert splitter.feed("", "Hm.") == [Part("thoughts", "Hm.")]
    assert splitter.feed("Hello") == [Part("words", "Hello")]
    assert splitter.feed("</think>!") == [Part("words", "</think>"), Part("words", "!")]


def test_a_model_that_does_not_think_may_speak_of_a_closing_tag() -> None:
    assert split("a </think> b", opening=Opening.NEVER) == ("a </think> b", "")


def test_an_answer_inside_its_thoughts_is_known() -> None:
    ends = {"<think>a": True, "<think>a</think>": False, "a": False, HARMONY: False}
    ends["<|channel|>analysis<|message|>a"] = True
    for text, inside in ends.items():
        splitter = ThoughtSplitter()
        splitter.feed(text)
        splitter.flush()
        assert splitter.inside is inside, text


@given(
    st.lists(
        st.sampled_from(
            ["<think>", "</think>", "<", "/think>", "a ", "b", "`", "\n", "<|channel|>"]
        )
    )
)
def test_no_character_of_an_answer_is_lost(pieces: list[str]) -> None:
    words, thoughts = split("x", *pieces)
    text = "".join(["x", *pieces])
    tags = 0 if not thoughts and words == text else text.count("think>")
    lost = len(text) - len(words) - len(thoughts)
    assert 0 <= lost <= tags * len("</think>") + text.count("\n")
    assert split(*"x", *text[1:]) == (words, thoughts)


@given(st.lists(st.sampled_from(["</think>", "<", "/think>", "a ", "b", "\n", "</THINK>"])))
def test_without_thoughts_nothing_is_lost(pieces: list[str]) -> None:
    assert split("x", *pieces, opening=Opening.NEVER) == ("x" + "".join(pieces), "")


def test_a_thought_is_told_while_it_comes() -> None:
    splitter = ThoughtSplitter()
    assert splitter.feed("<think>It may <") == [Part("thoughts", "It may ")]
    assert splitter.feed("b>") == [Part("thoughts", "<b>")]


QWEN3 = """{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""


@pytest.mark.parametrize(
    ("template", "opening"),
    [
        (None, Opening.UNKNOWN),
        ("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", Opening.NEVER),
        (QWEN3, Opening.BY_MODEL),
        (
            (
                "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}"
                "{%- endif %}"
            ),
            Opening.BY_PROMPT,
        ),
        (
            "{% if add_generation_prompt and not ns.is_tool %}{{'<A><think>\\n'}}{% endif %}",
            Opening.BY_PROMPT,
        ),
        (
            "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
            Opening.BY_PROMPT,
        ),
        (
            (
                "{% if add_generation_prompt %}{{'<A>'}}{% if not thinking %}{{'</think>'}}"
                "{% else %}{{'<think>'}}{% endif %}{% endif %}"
            ),
            Opening.UNKNOWN,
        ),
        ("{{ '<think>' }}", Opening.UNKNOWN),
    ],
)
def test_a_template_tells_who_opens_thoughts(template: str | None, opening: Opening) -> None:
    assert opening_of(template) is opening
