"""How a model is asked: by messages in a chat template, or by a text that it continues."""

from typing import TYPE_CHECKING

from modelrunner.chat.turn_end import END_MARKERS, START_MARKERS
from modelrunner.errors import MalformedGGUFError
from modelrunner.frozen import frozen
from modelrunner.gguf.reader import read_header
from modelrunner.gguf.vocabulary import control_tokens
from modelrunner.runtime import chat_templates

if TYPE_CHECKING:
    from modelrunner.operations.launch.plan import LaunchPlan

_MARKERS = (*END_MARKERS, *START_MARKERS)
_CHANNEL = "<|channel|>"
_TEMPLATE_FLAGS = ("--chat-template", "--chat-template-file")


@frozen
class Manner:
    """How a model is asked, and what ends its answer.

    Attributes:
        completes: Whether it continues a text, without a chat template.
        stop_markers: Turn markers that end an answer wherever they stand.
        own_markers: Turn markers that end an answer where they stand as between two turns.
        note: What to say of it; None where it is as usual.
        template: The chat template that models of this family are usually trained with.
    """

    completes: bool = False
    stop_markers: tuple[str, ...] = ()
    own_markers: frozenset[str] = frozenset()
    note: str | None = None
    template: str | None = None


def manner_of(plan: "LaunchPlan", *, raw: bool) -> Manner:
    """Decide how to ask a model that is about to be started.

    Args:
        plan: How it is started.
        raw: Whether it is to continue text, whatever it was trained for.
    """
    if not plan.is_base:
        return Manner(completes=True) if raw else Manner(own_markers=_own_markers(plan))
    metadata = plan.metadata
    pre = metadata.values.get("tokenizer.ggml.pre")
    family = chat_templates.family_template(
        metadata.architecture, pre if isinstance(pre, str) else None, metadata.name
    )
    base = f"{plan.name} is a base model (no chat template)"
    given = plan.spec.chat_template
    if not raw and given is not None:
        note = f"{base}: using the chat template {chat_templates.name_of(given)}"
        return Manner(stop_markers=_MARKERS, note=note, template=family)
    flags = [flag.partition("=")[0] for flag in plan.spec.raw_flags]
    if not raw and any(flag in flags for flag in _TEMPLATE_FLAGS):
        return Manner(stop_markers=_MARKERS, template=family)
    note = f"{base}: it continues text; to chat with it, try --chat-template {family}"
    return Manner(
        completes=True, stop_markers=_MARKERS, note=None if raw else note, template=family
    )


def _own_markers(plan: "LaunchPlan") -> frozenset[str]:
    if _CHANNEL in (plan.chat_template or ""):
        # one answer is several messages, thoughts among them
        return frozenset()
    try:
        header = read_header(plan.spec.model)
    except (MalformedGGUFError, OSError):
        return frozenset()
    return control_tokens(plan.spec.model, header, _MARKERS)
