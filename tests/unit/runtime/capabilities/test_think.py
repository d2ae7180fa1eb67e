"""How much to think, in the words of templates and runtimes."""

import pytest

from modelrunner.runtime.capabilities.facts import Thinking
from modelrunner.runtime.capabilities.think import Thinker, ThinkKind, Thought

QWEN = Thinking(switch="enable_thinking", on=True, off=False)
MINIMAX = Thinking(switch="thinking_mode", on="enabled", off="disabled")
R1 = Thinking(opens=True, opens_by_default=True)
GPT_OSS = Thinking(effort="reasoning_effort", levels=("low", "medium", "high"))
KIMI = Thinking(
    switch="thinking", on=True, off=False, effort="thinking_effort", levels=("low", "high", "max")
)
DEEPSEEK = Thinking(
    switch="thinking", on=True, off=False, effort="reasoning_effort", levels=("max",), plain=True
)
SOLAR = Thinking(effort="reasoning_effort", levels=("minimal", "low"), plain=True)
HUNYUAN = Thinking(effort="reasoning_effort", levels=("low", "high"), effort_off="no_think")
SEED = Thinking(budget="thinking_budget")
NEMOTRON = Thinking(message=True, on="/think", off="/no_think")


def asked(thinking: Thinking | None, level: str, *, budgets: bool = True) -> Thought:
    return Thinker("m", thinking, budgets=budgets).ask(level)


@pytest.mark.parametrize(
    ("thinking", "level", "arguments"),
    [
        (QWEN, "off", {"enable_thinking": False}),
        (QWEN, "0", {"enable_thinking": False}),
        (QWEN, "on", {"enable_thinking": True}),
        (QWEN, "high", {"enable_thinking": True}),
        (MINIMAX, "off", {"enable_thinking": False, "thinking_mode": "disabled"}),
        (GPT_OSS, "medium", {"reasoning_effort": "medium"}),
        (
            KIMI,
            "low",
            {"enable_thinking": True, "thinking": True, "thinking_effort": "low"},
        ),
        (DEEPSEEK, "on", {"enable_thinking": True, "thinking": True}),
        (HUNYUAN, "off", {"enable_thinking": False, "reasoning_effort": "no_think"}),
        (HUNYUAN, "high", {"reasoning_effort": "high"}),
        (SEED, "off", {"thinking_budget": 0}),
        (SEED, "512", {"thinking_budget": 512}),
    ],
)
def test_what_a_template_knows_is_said_in_its_own_words(
    thinking: Thinking, level: str, arguments: dict[str, object]
) -> None:
    assert asked(thinking, level) == Thought(arguments)


@pytest.mark.parametrize(
    ("thinking", "level", "word"),
    [
        (KIMI, "medium", "high"),
        (DEEPSEEK, "low", None),
        (DEEPSEEK, "high", "max"),
        (SOLAR, "high", None),
        (HUNYUAN, "medium", "high"),
    ],
)
def test_a_level_that_a_template_lacks_is_the_nearest_one_and_that_is_said(
    thinking: Thinking, level: str, word: str | None
) -> None:
    thought = asked(thinking, level)
    assert thinking.effort is not None
    assert thought.arguments.get(thinking.effort) == word
    meant = word or "its usual one"
    known = ", ".join(thinking.levels)
    assert thought.note == f"m knows the levels {known}: for {level}, {meant} is used"


def test_words_in_the_system_prompt() -> None:
    assert asked(NEMOTRON, "off") == Thought(words="/no_think")
    assert asked(NEMOTRON, "on") == Thought(words="/think")


def test_where_a_template_has_no_levels_tokens_stand_for_them_and_that_is_said() -> None:
    assert asked(QWEN, "low") == Thought(
        {"enable_thinking": True}, 1024, note="m knows no levels: low is at most 1024 tokens"
    )
    assert asked(QWEN, "300").fields() == {
        "chat_template_kwargs": {"enable_thinking": True},
        "reasoning_budget_tokens": 300,
    }


def test_a_template_without_a_switch_is_stopped_by_the_runtime_where_it_can() -> None:
    assert asked(R1, "off") == Thought(budget=0)
    assert asked(R1, "off", budgets=False).note == "m cannot stop thinking with this runtime"
    assert asked(R1, "64", budgets=False).note == (
        "m cannot limit its thoughts to 64 tokens with this runtime"
    )


def test_a_model_that_only_knows_levels_gets_its_lowest_one_for_off_and_that_is_said() -> None:
    assert asked(GPT_OSS, "off") == Thought(
        {"reasoning_effort": "low"},
        note="m cannot stop thinking: its lowest level, low, is used",
    )


def test_a_model_that_does_not_think_is_asked_nothing_and_that_is_said() -> None:
    assert asked(None, "low") == Thought(
        note="the chat template of m has no thinking: `think` has no effect"
    )


@pytest.mark.parametrize(
    ("level", "fields"),
    [
        ("off", {"chat_template_kwargs": {"enable_thinking": False}}),
        (
            "low",
            {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"}},
        ),
        (
            "9",
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_budget_tokens": 9},
        ),
    ],
)
def test_a_server_whose_model_is_not_known_gets_what_most_understand(
    level: str, fields: dict[str, object]
) -> None:
    assert Thinker("m", None, known=False).ask(level).fields() == fields


@pytest.mark.parametrize(
    ("text", "found"),
    [("OFF", "off"), ("0512", "512"), ("2147483647", "2147483647"), ("2147483648", None),
     ("max", None), ("-1", None), ("", None), ("9" * 5000, None), ("١٢", None)],
)  # fmt: skip
def test_a_level_is_a_word_or_a_number_of_tokens(text: str, found: str | None) -> None:
    assert ThinkKind().parse(text) == found
