"""What the gateway adds to the body of a request; all else of it stays as it was.

- llama.cpp knows `tool_choice` as `auto`, `none` or `required`, for all functions together. A
  request that names functions gets these alone, and `required` where one has to be called.
- It has no word for effort: a template has its own, or its tokens are limited.
- A request without a system prompt gets that of the model, where its API has it.

What it refuses although others accept it is in `repairs`.
"""

import json
from collections.abc import Mapping
from typing import Any

from modelrunner.runtime.capabilities.think import Thinker, ThinkKind
from modelrunner.serve.bodies.fields import Fields
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.models import Served

_PROMPTED = ("chat/completions", "chat/completions/input_tokens")
"""Where a system prompt is added. `completions` continue text as it is."""

_LEVELS: Mapping[str, str] = {"none": "off", "minimal": "low", "xhigh": "high", "max": "high"}
"""OpenAI's words for effort that ours are without."""


def translate(
    raw: bytearray, fields: Fields, endpoint: str, model: Served, *, budgets: bool
) -> None:
    """Put a request into words that llama.cpp knows.

    Args:
        raw: The body, which is changed.
        fields: What was read of it.
        endpoint: What is asked.
        model: What is to answer.
        budgets: Whether the runtime can limit the tokens of thoughts.

    Raises:
        RefusalError: The model's template shows no functions, and one has to be called; or what is
            chosen is not among the tools.
    """
    if endpoint == "chat/completions" and fields.tool_choice is not None:
        _check_tools(fields.tool_choice, model)
        if fields.tools:
            append_fields(raw, {"tool_choice": fields.tool_choice["mode"]})
            append_raw(raw, b'"tools":' + fields.tools)
    if endpoint == "chat/completions" and fields.effort is not None:
        added = thought(fields.effort, model, budgets=budgets)
        if added:
            append_fields(raw, added)


def thought(effort: str, model: Served, *, budgets: bool) -> Mapping[str, object]:
    """Return the fields that let a model think as much as OpenAI's word for it says.

    None where its template is not known, or has no thoughts: there is nothing to say more or less.
    """
    known = model.facts.capabilities
    thinking = known.template.thinking if known is not None and known.template else None
    level = _LEVELS.get(effort, effort)
    if thinking is None or ThinkKind().parse(level) is None:
        return {}
    return Thinker(model.name, thinking, budgets=budgets).ask(level).fields()


def add_system_prompt(raw: bytearray, fields: Fields, endpoint: str, text: str) -> None:
    """Put a system prompt into the body of a request that has none of its own.

    Args:
        raw: The body, which is changed.
        fields: What was read of it.
        endpoint: What is asked.
        text: The prompt.
    """
    if endpoint not in _PROMPTED or "messages" not in fields.without_system:
        return
    insert_system_prompt(raw, fields, text)


def insert_system_prompt(raw: bytearray, fields: Fields, text: str) -> None:
    """Put a system prompt before the messages of a body, where it has some."""
    if fields.messages_at is not None:
        message = json.dumps({"role": "system", "content": text})
        raw[fields.messages_at : fields.messages_at] = f"{message},".encode()


def append_fields(raw: bytearray, added: Mapping[str, Any]) -> None:
    """Add fields behind all others: of two with one name, parsers take the last."""
    append_raw(raw, json.dumps(added)[1:-1].encode())


def append_raw(raw: bytearray, inside: bytes) -> None:
    """Add fields that are JSON already, without the braces around them."""
    at = raw.rindex(b"}")
    raw[at:at] = b"," + inside


def _check_tools(choice: Mapping[str, str], model: Served) -> None:
    if choice.get("missing") is not None:
        raise RefusalError(
            400,
            f"`tool_choice` names {choice['missing']}, which is not among `tools`",
            "invalid_tool_choice",
        )
    if choice["mode"] == "required" and knows_no_tools(model):
        raise RefusalError(
            400,
            f"the chat template of {model.name} does not support tools: leave out `tool_choice`, "
            "or use a model with tools",
            "unsupported_field",
        )


def knows_no_tools(model: Served) -> bool:
    """Whether the chat template of a model is known, and does not support tools."""
    if model.spec.chat_template is not None or model.spec.raw_flags:
        return False
    known = model.facts.capabilities
    return known is not None and known.template is not None and not known.template.tools
