"""A request of Anthropic's Messages, as a chat; read by a child where it is large."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelrunner.serve.apis.anthropic.content import chat_messages, system_text
from modelrunner.serve.apis.content import unknown_choice
from modelrunner.serve.bodies.fields import InvalidBodyError, found_in, read_object
from modelrunner.text import listed, sanitize_line

Request = Mapping[str, Any]

_SAME = ("temperature", "top_p", "top_k", "max_tokens")
_MEANINGLESS = (
    "metadata",
    "service_tier",
    "inference_geo",
    "cache_control",
    "context_management",
    "speed",
    "betas",
)
"""Fields that say nothing to a model of one's own: who pays, where, and what to leave out."""

_CONSUMED = frozenset(
    {*_SAME, *_MEANINGLESS, "messages", "system", "stop_sequences", "stream", "tools", "thinking"}
    | {"tool_choice", "output_config", "output_format", "mcp_servers", "container"}
)
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


def translate(raw: bytes) -> tuple[Mapping[str, Any], Sequence[bytes]]:
    """Return a request as a chat: what matters of it, and the body.

    Raises:
        InvalidBodyError: It is not a request, or asks for what cannot be had.
    """
    value = read_object(raw)
    _check(value)
    system = system_text(value.get("system"))
    front = [] if system is None else [{"role": "system", "content": system}]
    chat: dict[str, Any] = {
        # first: where they begin is found at once
        "messages": [*front, *chat_messages(value.get("messages"))],
        **{name: each for name, each in value.items() if name not in _CONSUMED},
        **{name: value[name] for name in _SAME if value.get(name) is not None},
        **_tools(value),
        **_form(value),
        "stream": True,
        "stream_options": {"include_usage": True},
        # with it the tokens of the prompt are known at the start, where clients read them
        "return_progress": True,
    }
    stops = value.get("stop_sequences")
    if stops:
        # only with `verbose` does the runtime say which of them it was
        chat |= {"stop": stops, "verbose": True}
    body = json.dumps(chat, separators=(",", ":")).encode()
    found = {**found_in(chat, body)[0], "effort": _effort(value)}
    return {"fields": found, "stream": value.get("stream") is True}, (body,)


def _check(value: Request) -> None:
    for name in ("mcp_servers", "container"):
        if value.get(name):
            raise _unsupported(f"`{name}` is not supported: leave it out")
    tokens = value.get("max_tokens")
    if tokens is not None and (not isinstance(tokens, int) or tokens < 1):
        raise InvalidBodyError("`max_tokens` is not a positive number", "invalid_value")
    stops = value.get("stop_sequences")
    if stops is not None and not (
        isinstance(stops, list) and all(isinstance(each, str) for each in stops)
    ):
        raise InvalidBodyError("`stop_sequences` is not a list of strings", "invalid_value")


def _tools(value: Request) -> dict[str, Any]:
    """The tools of a chat; those that Anthropic's servers or models bring with them are left out.

    Raises:
        InvalidBodyError: There are no others, or it is one of these that has to be called.
    """
    given = value.get("tools") or []
    if not isinstance(given, list):
        raise InvalidBodyError("`tools` is not a list", "invalid_value")
    functions, others = [], []
    for number, tool in enumerate(given):
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(tool, dict) or not isinstance(name, str):
            raise InvalidBodyError(f"`tools[{number}].name` is missing", "invalid_value")
        if tool.get("type") not in {None, "custom"}:
            others.append(sanitize_line(str(tool["type"]), 80))
            continue
        function = {
            "name": name,
            "parameters": tool.get("input_schema") or {"type": "object", "properties": {}},
        }
        if isinstance(tool.get("description"), str):
            function["description"] = tool["description"]
        functions.append({"type": "function", "function": function})
    choice = value.get("tool_choice") or {}
    if not isinstance(choice, dict):
        raise InvalidBodyError("`tool_choice` is not an object", "invalid_tool_choice")
    if others and not functions and choice.get("type") != "none":
        raise _unsupported(
            f"tools of the type {listed(sorted(set(others)))} are not supported: use tools with an"
            " `input_schema`, which your program runs"
        )
    found: dict[str, Any] = {"tools": functions} if functions else {}
    if choice:
        found |= _choice(choice, functions)
    return found


def _choice(choice: Request, functions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kind = choice.get("type")
    if kind in {"auto", "none"}:
        found["tool_choice"] = kind
    elif kind == "any":
        found["tool_choice"] = "required"
    elif kind == "tool":
        named = [each for each in functions if each["function"]["name"] == choice.get("name")]
        if not named:
            raise unknown_choice(str(choice.get("name")))
        # this one alone: runtimes know no other choice
        found |= {"tools": named, "tool_choice": "required"}
    else:
        shown = sanitize_line(str(kind), 80)
        raise InvalidBodyError(
            f"`tool_choice.type` is {shown}: expected auto, any, tool or none",
            "invalid_tool_choice",
        )
    if choice.get("disable_parallel_tool_use") is True:
        found["parallel_tool_calls"] = False
    return found


def _form(value: Request) -> dict[str, Any]:
    """The form of the answer as a chat has it."""
    config = value.get("output_config") or {}
    if not isinstance(config, dict):
        raise InvalidBodyError("`output_config` is not an object", "invalid_value")
    form = config.get("format") or value.get("output_format")
    if form is None:
        return {}
    schema = form.get("schema") if isinstance(form, dict) else None
    if (
        not isinstance(form, dict)
        or form.get("type") != "json_schema"
        or not isinstance(schema, dict)
    ):
        raise _unsupported("`output_config.format` can only be json_schema with a `schema`")
    inner = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


def _effort(value: Request) -> str | None:
    """How much to think: a word, or a number of tokens at most."""
    thinking = value.get("thinking") or {}
    if not isinstance(thinking, dict):
        raise InvalidBodyError("`thinking` is not an object", "invalid_value")
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    if kind not in {None, "enabled", "disabled", "adaptive"}:
        shown = sanitize_line(str(kind), 80)
        raise InvalidBodyError(
            f"`thinking.type` is {shown}: expected enabled, disabled or adaptive", "invalid_value"
        )
    if kind == "disabled":
        return "none"
    if kind == "enabled" and isinstance(budget, int) and budget > 0:
        return str(budget)
    effort = (value.get("output_config") or {}).get("effort")
    if effort is not None and effort not in _EFFORTS:
        shown = sanitize_line(str(effort), 80)
        raise InvalidBodyError(
            f"`output_config.effort` is {shown}: expected one of {', '.join(_EFFORTS)}",
            "invalid_value",
        )
    return effort if isinstance(effort, str) else ("on" if kind == "enabled" else None)


def _unsupported(message: str) -> InvalidBodyError:
    return InvalidBodyError(message, "unsupported_field")
