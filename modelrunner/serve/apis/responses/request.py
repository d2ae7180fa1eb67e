"""A request for a response, as a chat; read by a child where it is large, see `parsing`."""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from modelrunner.serve.apis.responses.items import Conversation, as_listed, listed_items
from modelrunner.serve.apis.responses.tools import Tools
from modelrunner.serve.bodies.fields import InvalidBodyError, found_in, read_object
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_object

Request = Mapping[str, Any]

_REFUSED: Mapping[str, str] = {
    "background": "leave it out, and use `stream`",
    "background_options": "leave it out",
    "conversation": "use `previous_response_id`",
    "prompt": "put its text into `instructions`",
    "context_management": "leave it out",
    "moderation": "leave it out",
    "access_programs": "leave it out",
}
"""Fields that ask for what cannot be had, and what to do instead."""

_INCLUDES = (
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_SHOWN: Mapping[str, object] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": None,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""Fields of a request that its response has too, and what they are where a request is silent."""

_CONSUMED = frozenset(
    {*_SHOWN, *_REFUSED, "include", "input", "prompt_cache_options", "prompt_cache_retention"}
    | {"reasoning", "stream", "stream_options", "text", "tools"}
)
"""Fields that become something else in a chat, or mean nothing to a runtime; all others pass."""

_MOST_LOGPROBS = 20


def translate(raw: bytes, kept: bytes) -> tuple[Mapping[str, Any], Sequence[bytes]]:
    """Return a request as a chat.

    Args:
        raw: The body.
        kept: What it needs of earlier responses: `{"before": [..], "items": {"ID": ..}}`, with
            `before` where it has a `previous_response_id`; `{}` until that is known.

    Returns:
        What matters of it, see `Exchange`; and as bytes the body of the chat, what the response
        repeats of the request (an object without its braces), and each new item of the input.
        Instead of all this `needed`, where it needs something and `kept` is `{}`.

    Raises:
        InvalidBodyError: It is not a request, or asks for what cannot be had.
    """
    value = read_object(raw)
    earlier = parse_object(kept)
    needed = _needed(value)
    if needed and not earlier:
        return {"needed": needed}, ()
    _check(value)
    tools = Tools.read(value)
    conversation = Conversation()
    instructions = _text_or_none(value, "instructions")
    if instructions is not None:
        conversation.system.append(instructions)
    for item in earlier.get("before", ()):
        conversation.add(item, "previous_response_id")
    items = []
    # to continue without a word more is allowed where there is something to continue
    given = value.get("input", [] if "before" in earlier else None)
    before = {item["id"] for item in earlier.get("before", ())}
    for number, each in enumerate(listed_items(given)):
        where = f"input[{number}]"
        if _is_reference(each) and each.get("id") in before:
            # the model has it already
            continue
        item = _resolved(each, earlier, where) if _is_reference(each) else each
        conversation.add(item, where if isinstance(given, list) else "input")
        items.append(item)
    if not items and not earlier.get("before"):
        raise InvalidBodyError("`input` is empty", "invalid_value")
    asked = _asked(value)
    chat = {
        # first: where they begin is found at once
        "messages": conversation.all(),
        **{name: each for name, each in value.items() if name not in _CONSUMED},
        **_sampling(value, asked),
        **_form(value),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if tools.functions:
        chat["tools"] = tools.functions
        if tools.choice is not None:
            chat["tool_choice"] = tools.choice
        if isinstance(value.get("parallel_tool_calls"), bool):
            chat["parallel_tool_calls"] = value["parallel_tool_calls"]
    body = _encoded(chat)
    found = {
        **asked,
        "fields": found_in(chat, body)[0],
        "custom": tools.custom,
        "namespaces": tools.namespaces,
        "items": [_name_of(item) for item in items],
    }
    named = zip(items, found["items"], strict=True)
    listed = [_encoded(as_listed(item, name)) for item, name in named]
    return found, [body, _repeated(value, tools), *listed]


def _needed(value: Request) -> dict[str, Any]:
    """What of earlier responses a request needs; empty where it is nothing."""
    given = value.get("input")
    names = [
        item["id"]
        for item in (given if isinstance(given, list) else ())
        if _is_reference(item) and isinstance(item.get("id"), str)
    ]
    previous = _text_or_none(value, "previous_response_id")
    return {"previous": previous, "items": names} if previous or names else {}


def _check(value: Request) -> None:
    for name, instead in _REFUSED.items():
        if value.get(name) not in {None, False} if _is_plain(value.get(name)) else True:
            raise _unsupported(f"`{name}` is not supported: {instead}")
    if value.get("truncation") not in {None, "disabled"}:
        raise _unsupported(
            '`truncation` can only be "disabled": a request that is too long is refused'
        )
    metadata = value.get("metadata")
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(each, str) for each in metadata.values())
    ):
        raise InvalidBodyError("`metadata` is not an object of strings", "invalid_value")
    tokens = value.get("max_output_tokens")
    if tokens is not None and (not isinstance(tokens, int) or tokens < 1):
        raise InvalidBodyError("`max_output_tokens` is not a positive number", "invalid_value")


def _asked(value: Request) -> dict[str, Any]:
    """What is asked of the answer."""
    include = value.get("include") or []
    if not isinstance(include, list):
        raise InvalidBodyError("`include` is not a list", "invalid_value")
    for each in include:
        if each not in _INCLUDES:
            shown = sanitize_line(str(each), 80)
            raise InvalidBodyError(f"`include` has the unknown value {shown}", "invalid_value")
    reasoning = value.get("reasoning") or {}
    if not isinstance(reasoning, dict):
        raise InvalidBodyError("`reasoning` is not an object", "invalid_value")
    effort = reasoning.get("effort")
    if effort not in {None, *_EFFORTS}:
        raise InvalidBodyError(
            f"`reasoning.effort` is {sanitize_line(str(effort), 80)}: expected one of"
            f" {', '.join(_EFFORTS)}",
            "invalid_value",
        )
    summary = reasoning.get("summary") or reasoning.get("generate_summary")
    top = value.get("top_logprobs")
    if top is not None and (not isinstance(top, int) or not 0 <= top <= _MOST_LOGPROBS):
        raise InvalidBodyError(f"`top_logprobs` is not between 0 and {_MOST_LOGPROBS}")
    return {
        "stream": value.get("stream") is True,
        "store": value.get("store") is not False,
        "effort": effort,
        "summary": summary if isinstance(summary, str) else None,
        "sealed": "reasoning.encrypted_content" in include,
        "logprobs": "message.output_text.logprobs" in include or bool(top),
    }


def _sampling(value: Request, asked: Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, chat_name in (
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("max_output_tokens", "max_tokens"),
    ):
        if value.get(name) is not None:
            found[chat_name] = value[name]
    if asked["logprobs"]:
        found |= {"logprobs": True, "top_logprobs": value.get("top_logprobs") or 0}
    if asked["effort"] is not None:
        found["reasoning_effort"] = asked["effort"]
    return found


def _form(value: Request) -> dict[str, Any]:
    """The form of the answer as a chat has it."""
    text = value.get("text")
    if text is None:
        return {}
    if not isinstance(text, dict):
        raise InvalidBodyError("`text` is not an object", "invalid_value")
    if text.get("verbosity") not in {None, "medium"}:
        raise _unsupported("`text.verbosity` is not supported: say it in `instructions`")
    form = text.get("format")
    kind = form.get("type") if isinstance(form, dict) else None
    if form is None or kind == "text":
        return {}
    if isinstance(form, dict) and kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if isinstance(form, dict) and kind == "json_schema" and isinstance(form.get("schema"), dict):
        inner = {name: form[name] for name in ("name", "schema", "strict") if name in form}
        return {"response_format": {"type": "json_schema", "json_schema": inner}}
    raise _unsupported(
        "`text.format` is not supported: use text, json_object, or json_schema with a `schema`"
    )


def _repeated(value: Request, tools: Tools) -> bytes:
    """What a response repeats of its request, as the inside of an object."""
    found = {
        name: default if value.get(name) is None else value[name]
        for name, default in _SHOWN.items()
    }
    # a tier is chosen where there are several
    found["service_tier"] = "default"
    text = value.get("text") or {}
    found["text"] = {"format": text.get("format") or {"type": "text"}, "verbosity": "medium"}
    found["tools"] = tools.shown
    return _encoded(found)[1:-1]


def _is_reference(item: object) -> bool:
    """Whether an item only names another one; clients leave the type out."""
    return isinstance(item, dict) and (
        item.get("type") == "item_reference" or (set(item) == {"id"})
    )


def _resolved(item: Request, earlier: Request, where: str) -> Request:
    name = item.get("id")
    found = earlier.get("items", {}).get(name) if isinstance(name, str) else None
    if not isinstance(found, dict):
        shown = sanitize_line(str(name), 80)
        raise InvalidBodyError(
            f"`{where}` refers to {shown}, which is not kept: send the item itself",
            "item_not_found",
        )
    return found


def _name_of(item: Request) -> str:
    """The ID of an item, a new one where it has none."""
    name = item.get("id")
    if isinstance(name, str) and name:
        return name
    start = {
        "function_call": "fc",
        "function_call_output": "fco",
        "custom_tool_call": "ctc",
        "custom_tool_call_output": "ctco",
        "reasoning": "rs",
    }.get(str(item.get("type")), "msg")
    return f"{start}_{secrets.token_hex(16)}"


def _text_or_none(value: Request, name: str) -> str | None:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise InvalidBodyError(f"`{name}` is not a string", "invalid_value")
    return found


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _unsupported(message: str) -> InvalidBodyError:
    return InvalidBodyError(message, "unsupported_field")


def _encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
