"""What the gateway understands of a request's body: the few fields by which it decides.

A module of the standard library's and our own small ones: a child process reads large bodies with
it, see `modelrunner.serve.bodies.parsing`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from modelrunner.serve.bodies.repairs import repaired
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_json

_MEDIA = {
    "image_url": "images",
    "input_image": "images",
    "image": "images",
    "input_audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
    "input_video": "video",
}
"""Kinds of content that need a projector, in the words of all APIs."""

_MAY_HAVE_MEDIA = re.compile(rb'"(?:%s)"' % "|".join(_MEDIA).encode())

_SYSTEM_ROLES = ("system", "developer")
_MESSAGES = re.compile(rb'"messages"[ \t\r\n]*:[ \t\r\n]*\[')
_MOST_TRIED = 8
"""Lists that are tried; what comes before each is parsed, which takes its time."""

_MOST_CONTAINERS = 250_000
_MOST_VALUES = 1_000_000
"""Values of one request: each takes several times its bytes.

Counted by their marks, those within texts too: a text with so many is longer than any context.
"""

_UNSUPPORTED: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "echo": lambda value: value.get("echo") is True,
    "suffix": lambda value: bool(value.get("suffix")),
    "best_of": lambda value: value.get("best_of") not in (None, 1, value.get("n")),
    "functions": lambda value: bool(value.get("functions")),
    "function_call": lambda value: value.get("function_call") not in (None, "auto", "none"),
    "web_search_options": lambda value: value.get("web_search_options") is not None,
    "audio": lambda value: value.get("audio") is not None,
    "modalities": lambda value: value.get("modalities") not in (None, ["text"]),
    "verbosity": lambda value: value.get("verbosity") not in (None, "medium"),
}
"""Fields of OpenAI's that runtimes pass over, and when they ask for something."""

_LONGEST_NAME = 1100
"""Characters of the field `model` that are kept: more than any name has, and than is compared."""


class InvalidBodyError(Exception):
    """A body that is not a request.

    Args:
        message: What is wrong with it.
        code: What programs tell errors apart by.
    """

    def __init__(self, message: str, code: str = "invalid_json") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The fields of a request that matter before a runtime sees it.

    Attributes:
        model: The model that is asked for; None where none is named.
        count: `n`, the number of answers; None where it is not a number.
        unsupported: What it asks for that no runtime does, see `_UNSUPPORTED`.
        logprobs: Probabilities of how many tokens are asked for; None for none.
        effort: `reasoning_effort`; None where nothing is said, or more than that.
        dimensions: Numbers of a vector; 0 for what is not a number, None where it is missing.
        media: What the messages hold besides text: `images`, `audio`, `video`.
        without_system: `messages`, where these could have brought a system prompt and have not.
        tool_choice: What `tool_choice` comes to where a function has to be called, or some are
            named: `mode`, with `missing`, the first that is not there.
        tools: Those that are named, as JSON; empty where none are.
        messages_at: Where in the body the first of its messages begins; None where that is not
            needed, or not found.
    """

    model: str | None = None
    count: int | None = None
    unsupported: Sequence[str] = ()
    logprobs: int | None = None
    effort: str | None = None
    dimensions: float | None = None
    media: str | None = None
    without_system: Sequence[str] = ()
    messages_at: int | None = None
    tool_choice: Mapping[str, str] | None = None
    tools: bytes = b""


def read_object(raw: bytes | bytearray) -> Mapping[str, Any]:
    """Return the JSON object that a body is.

    Raises:
        InvalidBodyError: It is not one, or has too many values.
    """
    for marks, most, what in (
        (b"[{", _MOST_CONTAINERS, "lists and objects"),
        (b",", _MOST_VALUES, "values"),
    ):
        if sum(raw.count(mark) for mark in marks) > most:
            raise InvalidBodyError(
                f"the request has more than {most:,} {what}", "request_too_large"
            )
    try:
        # not by its bytes, of which Python's decoder would guess the encoding
        value = parse_json(str(raw, "utf-8"))
    except UnicodeDecodeError as exc:
        raise InvalidBodyError("the request is not UTF-8") from exc
    except json.JSONDecodeError as exc:
        where = f"expected JSON at line {exc.lineno}, column {exc.colno}"
        raise InvalidBodyError(f"the request is not JSON: {where}") from exc
    except ValueError as exc:
        raise InvalidBodyError(f"invalid request: {exc}") from exc
    if not isinstance(value, dict):
        raise InvalidBodyError("the request is not a JSON object")
    return value


def _fields(value: Mapping[str, Any], raw: bytes | bytearray) -> Fields:
    model, count, dimensions = (value.get(name) for name in ("model", "n", "dimensions"))
    if model is not None and not isinstance(model, str):
        raise InvalidBodyError("the field `model` is not a string", "invalid_model")
    lacking = list(_without_system(value))
    choice, tools = _tool_choice(value)
    return Fields(
        model=model[:_LONGEST_NAME] if model else None,
        count=count if isinstance(count, int) else None,
        unsupported=[name for name, asked in _UNSUPPORTED.items() if asked(value)],
        logprobs=_logprobs(value.get("logprobs")),
        effort=_effort(value),
        dimensions=dimensions if isinstance(dimensions, int | float | None) else 0,
        media=_media(value) if _MAY_HAVE_MEDIA.search(raw) else None,
        without_system=lacking,
        messages_at=_messages_at(raw) if "messages" in lacking else None,
        tool_choice=choice,
        tools=json.dumps(tools).encode() if tools else b"",
    )


def read(raw: bytes | bytearray) -> tuple[Mapping[str, Any], Sequence[bytes]]:
    """Return what matters of a body, as it goes from one process to another.

    The bytes are the tools that are named, and the fields to add behind all others.

    Raises:
        InvalidBodyError: It is not a request.
    """
    value = read_object(raw)
    repairs = repaired(value)
    found, tools = found_in({**value, **repairs}, raw)
    if not repairs:
        return found, tools
    if "messages" in repairs and found["messages_at"] is not None:
        # those that are added count
        at = raw.rindex(b"}") + len(b',"messages": [')
        found = {**found, "messages_at": at}
    return found, (b"".join(tools), json.dumps(repairs)[1:-1].encode())


def found_in(
    value: Mapping[str, Any], raw: bytes | bytearray
) -> tuple[Mapping[str, Any], Sequence[bytes]]:
    """Return what `read` does of a body that is parsed already, or was just made.

    Args:
        value: The body.
        raw: The same as it is sent.

    Raises:
        InvalidBodyError: It is not a request.
    """
    found = asdict(_fields(value, raw))
    tools = found.pop("tools")
    return found, (tools,) if tools else ()


def _tool_choice(value: Mapping[str, Any]) -> tuple[Mapping[str, str] | None, Sequence[Any]]:
    """What `tool_choice` comes to, and the tools that it names."""
    choice, tools = value.get("tool_choice"), value.get("tools")
    if choice == "required":
        return {"mode": "required"}, ()
    if not isinstance(choice, dict) or not isinstance(tools, list):
        return None, ()
    if choice.get("type") == "function":
        mode, wanted = "required", [choice]
    elif choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools", choice)
        entries = allowed.get("tools") if isinstance(allowed, dict) else None
        if not isinstance(entries, list):
            return None, ()
        mode = "required" if allowed.get("mode") == "required" else "auto"
        wanted = entries
    else:
        return None, ()
    names = [_function_name(entry) for entry in wanted]
    known = {_function_name(tool) for tool in tools}
    if not known.issuperset(names) or None in names:
        missing = next((name for name in names if name not in known), None)
        return {"mode": mode, "missing": sanitize_line(missing or "no function", 80)}, ()
    return {"mode": mode}, [tool for tool in tools if _function_name(tool) in names]


def _logprobs(asked: object) -> int | None:
    """`logprobs`: a number of tokens for completions, true for chats."""
    return asked if isinstance(asked, int) and asked is not False else None


def _effort(value: Mapping[str, Any]) -> str | None:
    """The effort, unless the request says it in the words of its template."""
    effort = value.get("reasoning_effort")
    own = value.get("chat_template_kwargs") is not None
    return effort if isinstance(effort, str) and not own else None


def _function_name(entry: object) -> str | None:
    """The name of a function: below `function` in chat completions, at the top in responses."""
    if not isinstance(entry, dict):
        return None
    inner = entry.get("function", entry)
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else None


def _without_system(value: Mapping[str, Any]) -> Iterator[str]:
    if _lacks_system(value.get("messages")):
        yield "messages"


def _lacks_system(messages: object) -> bool:
    """Whether there are messages, and none is a system prompt."""
    return (
        isinstance(messages, list)
        and bool(messages)
        and not any(
            isinstance(each, dict) and each.get("role") in _SYSTEM_ROLES for each in messages
        )
    )


def _messages_at(raw: bytes | bytearray) -> int | None:
    """Where the list `messages` of a body begins; a list of that name deeper in it is another."""
    for match in islice(_MESSAGES.finditer(raw), _MOST_TRIED):
        try:
            front = parse_json(str(raw[: match.end()], "utf-8") + "]}")
        except ValueError:
            # within a text, or not at the top
            continue
        if isinstance(front, dict):
            return match.end()
    return None


def _media(value: Mapping[str, Any]) -> str | None:
    for entries in (value.get("messages"), value.get("input")):
        for entry in entries if isinstance(entries, list) else ():
            content = entry.get("content") if isinstance(entry, dict) else None
            for part in [entry, *content] if isinstance(content, list) else [entry]:
                kind = part.get("type") if isinstance(part, dict) else None
                if isinstance(kind, str) and kind in _MEDIA:
                    return _MEDIA[kind]
    return None
