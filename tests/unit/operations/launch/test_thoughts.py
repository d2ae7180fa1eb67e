"""What the prompt opens of thoughts, by runtime, template and how much to think."""

from types import SimpleNamespace
from typing import Any

import pytest

from modelrunner.chat.thoughts import Opening
from modelrunner.operations.launch.thoughts import opening, thinker
from modelrunner.runtime.base import Ability
from modelrunner.runtime.capabilities.facts import Capabilities, TemplateFacts, Thinking

ALWAYS = Thinking(opens=True, opens_by_default=True)
SWITCHED = Thinking(switch="enable_thinking", on=True, off=False, opens=True)
SILENT = Thinking(switch="enable_thinking", on=True, off=False)
SPLITS = {Ability.SPLITS_THOUGHTS}
OPENS = (
    "{% for m in messages %}{{ m }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"
)


def runtime(*abilities: Ability, external: bool = False) -> Any:
    return SimpleNamespace(name="some", external=external, abilities=frozenset(abilities))


def plan(thinking: Thinking | None = None, *, template: str = "", think: str | None = None) -> Any:
    facts = TemplateFacts(thinking=thinking, rendered=True) if thinking else None
    known = Capabilities(template=facts)
    return SimpleNamespace(name="ai/m", capabilities=known, chat_template=template, think=think)


def server(template: str | None = None) -> Any:
    return SimpleNamespace(chat_template=lambda: template)


@pytest.mark.parametrize(
    ("abilities", "thinking", "think", "expected"),
    [
        ((), ALWAYS, None, Opening.BY_PROMPT),
        ((), SWITCHED, None, Opening.BY_MODEL),
        ((), SWITCHED, "on", Opening.BY_PROMPT),
        ((), SWITCHED, "off", Opening.BY_MODEL),
        ((), SILENT, "on", Opening.BY_MODEL),
        (SPLITS, ALWAYS, None, Opening.UNKNOWN),
        (SPLITS, SWITCHED, "off", Opening.UNKNOWN),
        (SPLITS, SILENT, None, Opening.BY_MODEL),
    ],
)
def test_a_template_that_was_tried_decides(
    abilities: set[Ability], thinking: Thinking, think: str | None, expected: Opening
) -> None:
    assert opening(runtime(*abilities), plan(thinking, think=think), server()) is expected


@pytest.mark.parametrize(
    ("abilities", "expected"), [((), Opening.BY_PROMPT), (SPLITS, Opening.UNKNOWN)]
)
def test_the_text_of_another_template_does(abilities: set[Ability], expected: Opening) -> None:
    assert opening(runtime(*abilities), plan(template=OPENS), server()) is expected


def test_a_server_that_runs_already_says_it_for_its_own_model() -> None:
    foreign = runtime(external=True)
    assert opening(foreign, plan(ALWAYS), server("{{ messages }}")) is not Opening.BY_PROMPT
    assert opening(foreign, plan(), server(OPENS)) is Opening.UNKNOWN
    assert thinker(foreign, plan(ALWAYS), server(None)).known is False
