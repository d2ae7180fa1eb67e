"""What is known of a started model's thoughts: what its prompt opens, and how it can be asked."""

from typing import TYPE_CHECKING

from modelrunner.chat.thoughts import Opening, opening_of
from modelrunner.runtime.base import Ability, Runtime, Server
from modelrunner.runtime.capabilities.facts import Thinking
from modelrunner.runtime.capabilities.read import template_facts
from modelrunner.runtime.capabilities.think import Thinker

if TYPE_CHECKING:
    from modelrunner.operations.launch.plan import LaunchPlan


def opening(runtime: Runtime, plan: "LaunchPlan", server: Server) -> Opening:
    """Return what the prompt opens of thoughts, unless the server splits them off."""
    facts = plan.capabilities.template
    if facts is not None and facts.thinking is not None and facts.rendered and not runtime.external:
        return _opened(runtime, plan, facts.thinking)
    template, splits = plan.chat_template, Ability.SPLITS_THOUGHTS in runtime.abilities
    if runtime.external:
        # the model that was named may not be the one that answers
        template, splits = server.chat_template(), True
    found = opening_of(template)
    if found is Opening.BY_PROMPT and splits:
        # an answer without a thought may be whole then
        return Opening.UNKNOWN
    return found


def thinker(runtime: Runtime, plan: "LaunchPlan", server: Server) -> Thinker:
    """Return what turns how much to think into words that the model understands."""
    thinking, known = plan.capabilities.thinking, True
    if runtime.external:
        # the model that was named may not be the one that answers
        template = server.chat_template()
        known = template is not None
        thinking = template_facts([template])[0].thinking if template is not None else None
    limits = Ability.LIMITS_THOUGHTS in runtime.abilities
    return Thinker(plan.name, thinking, budgets=limits, known=known)


def _opened(runtime: Runtime, plan: "LaunchPlan", thinking: Thinking) -> Opening:
    """Return what the prompts of a template that was tried open."""
    if Ability.SPLITS_THOUGHTS in runtime.abilities:
        # an answer without a thought may be whole then, and each question may ask for thoughts
        opens = thinking.opens or thinking.opens_by_default
        return Opening.UNKNOWN if opens else Opening.BY_MODEL
    opens = thinking.opens_by_default if plan.think is None else thinking.opens
    off = plan.think in {"off", "0"} and thinking.can_stop
    return Opening.BY_PROMPT if opens and not off else Opening.BY_MODEL
