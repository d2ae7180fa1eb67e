"""Which functions an answer may call, where a request names some of those that it lists.

llama.cpp knows `auto`, `none` and `required` for all functions together, and passes over anything
else. A request that names functions gets these alone, and `required` where one has to be called.
"""

import json
from collections.abc import Mapping
from typing import Any

from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.client.fields import Fields
from modelrunner.serve.models import Served

_ENDPOINTS = ("chat/completions", "responses")


def narrow_tools(raw: bytearray, fields: Fields, endpoint: str, model: Served) -> None:
    """Leave a request the functions that it chooses.

    Args:
        raw: The body, which is changed.
        fields: What was read of it.
        endpoint: What is asked.
        model: What is to answer.

    Raises:
        RefusalError: The model's template shows no functions, and one has to be called; or what is
            chosen is not among the tools.
    """
    choice = fields.tool_choice
    if choice is None or endpoint not in _ENDPOINTS:
        return
    if choice.get("missing") is not None:
        raise RefusalError(
            400,
            f"`tool_choice` names {choice['missing']}, which is not among `tools`",
            "invalid_tool_choice",
        )
    if choice["mode"] == "required" and _knows_no_tools(model):
        raise RefusalError(
            400,
            f"the chat template of {model.name} does not support tools: leave out `tool_choice`, "
            "or use a model with tools",
            "unsupported_field",
        )
    if "tools" in choice:
        added: Mapping[str, Any] = {"tools": choice["tools"], "tool_choice": choice["mode"]}
        # behind all others: of two fields of a name, parsers take the last
        at = raw.rindex(b"}")
        raw[at:at] = ("," + json.dumps(added)[1:-1]).encode()


def _knows_no_tools(model: Served) -> bool:
    if model.spec.chat_template is not None or model.spec.raw_flags:
        return False
    known = model.facts.capabilities
    return known is not None and known.template is not None and not known.template.tools
