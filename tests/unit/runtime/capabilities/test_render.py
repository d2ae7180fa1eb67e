"""What a chat template shows of its model when it is rendered; a hostile one does no harm."""

import sys
from collections.abc import Mapping

import pytest

from modelrunner.runtime.capabilities import read
from modelrunner.runtime.capabilities.facts import TemplateFacts, Thinking
from modelrunner.runtime.capabilities.look import look
from modelrunner.runtime.capabilities.read import template_facts

pytest.importorskip("jinja2", reason="templates are rendered with jinja2")

PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
SWITCHED = (
    PLAIN + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)


TOOLS = {
    "prompt": PLAIN + "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}",
    "comment": PLAIN + "{% if tools %}{# tools are not supported #}{% endif %}",
    "filter": PLAIN + "{{ tools | map(attribute='function') | tojson if tools }}",
}
THINKING = {
    "on unless it is said": (
        SWITCHED,
        Thinking(switch="enable_thinking", on=True, off=False, default=True),
    ),
    "off unless it is said": (
        PLAIN + "{% if enable_thinking %}<think>\n{% endif %}",
        Thinking(switch="enable_thinking", on=True, off=False, default=False, opens=True),
    ),
    "DeepSeek's variable, opened by the prompt": (
        PLAIN + "{{ '<think>' if thinking is not defined or thinking else '</think>' }}",
        Thinking(switch="thinking", on=True, off=False, opens=True, opens_by_default=True),
    ),
    "always, opened by the prompt": (
        PLAIN + "<think>\n",
        Thinking(opens=True, opens_by_default=True),
    ),
    "always, by what it drops of old answers": (
        PLAIN.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}"),
        Thinking(),
    ),
    "levels that are handed on": (
        "Reasoning: {{ reasoning_effort or 'medium' }}" + PLAIN,
        Thinking(effort="reasoning_effort", levels=("low", "medium", "high")),
    ),
    "levels that others are refused": (
        PLAIN + "{% if thinking_effort is defined and thinking_effort not in ['low', 'max'] %}"
        "{{ raise_exception('no') }}{% endif %}{{ thinking_effort or 'max' }} below",
        Thinking(effort="thinking_effort", levels=("low", "max")),
    ),
    "levels with a word for none": (
        PLAIN + "{% set effort = reasoning_effort or 'no_think' %}"
        "{{ {'no_think': '<think></think>', 'high': '<think>'}[effort] }}",
        Thinking(
            effort="reasoning_effort",
            levels=("high",),
            effort_off="no_think",
            default=False,
            opens=True,
        ),
    ),
    "a level beside a switch": (
        PLAIN + "{% if enable_thinking %}{{ 'Hard.' if reasoning_effort == 'max' }}<think>"
        "{% endif %}",
        Thinking(
            switch="enable_thinking",
            on=True,
            off=False,
            effort="reasoning_effort",
            levels=("max",),
            plain=True,
            default=False,
            opens=True,
        ),
    ),
    "a budget": (
        "{% if thinking_budget is defined %}Think {{ thinking_budget }} tokens.{% endif %}" + PLAIN,
        Thinking(budget="thinking_budget"),
    ),
    "a word in the system prompt": (
        PLAIN + "{% set off = '/no_think' in messages[0].content %}"
        "{{ '<think></think>' if off else '<think>' }}",
        Thinking(message=True, on="/think", off="/no_think", opens=True, opens_by_default=True),
    ),
}
LETTERS = "Follow the rules below.{{ '' if reasoning_effort == 'none' else '<think>' }}" + PLAIN
INSISTING = [
    "{% for m in messages %}{{ m.content[0]['text'] + '' }}{% endfor %}<think>",
    "{% if messages[0].role != 'system' %}{{ raise_exception('x') }}{% endif %}<think>",
]
HUB = (
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% if loop.last %}{% break %}{% endif %}{% endfor %}{{ strftime_now('%Y') }}"
    "{{ tools | tojson(indent=2, ensure_ascii=False) if tools }}"
)


@pytest.fixture(scope="module")
def facts() -> Mapping[str, TemplateFacts]:
    """What each harmless template shows: one child renders them all."""
    thinking = (template for template, _ in THINKING.values())
    templates = [PLAIN, *TOOLS.values(), *thinking, LETTERS, *INSISTING, HUB]
    return dict(zip(templates, template_facts(templates), strict=True))


def test_a_template_that_knows_neither_tools_nor_thoughts_shows_nothing(
    facts: Mapping[str, TemplateFacts],
) -> None:
    assert facts[PLAIN] == TemplateFacts(tools=False, thinking=None, rendered=True)


def test_tools_are_known_where_they_reach_the_prompt_and_not_where_they_are_only_named(
    facts: Mapping[str, TemplateFacts],
) -> None:
    assert facts[TOOLS["prompt"]].tools
    assert not facts[TOOLS["comment"]].tools


@pytest.mark.parametrize(("template", "thinking"), THINKING.values(), ids=THINKING)
def test_how_thinking_is_switched(
    facts: Mapping[str, TemplateFacts], template: str, thinking: Thinking
) -> None:
    assert facts[template] == TemplateFacts(tools=False, thinking=thinking)


def test_a_level_is_not_taken_for_known_because_its_letters_are_in_another_word(
    facts: Mapping[str, TemplateFacts],
) -> None:
    thinking = facts[LETTERS].thinking
    assert thinking is not None
    assert (thinking.levels, thinking.effort_off) == ((), "none")


def test_templates_that_insist_on_other_conversations_are_rendered(
    facts: Mapping[str, TemplateFacts],
) -> None:
    assert [facts[template].rendered for template in INSISTING] == [True, True]


def test_what_the_hubs_library_has_beyond_jinja_is_understood(
    facts: Mapping[str, TemplateFacts],
) -> None:
    assert facts[HUB] == TemplateFacts(tools=True)


def test_what_a_filter_goes_through_is_shown_as_llama_cpp_shows_it(
    facts: Mapping[str, TemplateFacts],
) -> None:
    assert facts[TOOLS["filter"]].tools


HOSTILE = {
    "a loop without an end": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    ),
    "text without an end": "{% for a in range(99999) %}{{ 'x' * 999 }}{% endfor %}",
    "memory without an end": "{{ ('x' * 1000000000) ~ ('y' * 1000000000) }}",
    "a number without an end": "{{ 9 ** (9 ** 9) }}",
    "the interpreter": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "another template": "{% include '/etc/passwd' %}",
    "no template": "{% if %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}


AT_ONCE = (
    "from modelrunner.runtime.capabilities import render; render._UNINTERRUPTIBLE_S = 1; "
    "render.main()"
)
"""The child, which gives what cannot be interrupted a second instead of three."""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_looked_at_and_the_next_one_is_rendered(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "a number without an end":
        monkeypatch.setattr(read, "_PROGRAM", (sys.executable, "-P", "-c", AT_ONCE))
    template = HOSTILE[name] + "{{ tools }}{{ enable_thinking }}"
    first, second = template_facts([template, SWITCHED])
    assert first.rendered is False
    assert first == look(template)
    assert second.rendered


def test_a_long_template_is_looked_at() -> None:
    (found,) = template_facts([PLAIN + "{# x #}" * 200_000])
    assert not found.rendered


def test_a_look_finds_what_the_text_names_outside_of_comments() -> None:
    assert look("{# tools enable_thinking <think> #}{{ messages }}") == TemplateFacts(
        rendered=False
    )
    assert look("{{ tools }}{% if enable_thinking %}{% endif %}") == TemplateFacts(
        tools=True,
        thinking=Thinking(switch="enable_thinking", on=True, off=False),
        rendered=False,
    )
