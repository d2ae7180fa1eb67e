"""Requests of Ollama's API in the words of a runtime.

A module of the standard library's and our own small ones: a child process reads large requests
with it. Each function returns what decides about a request, and as bytes what the runtime is sent.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelrunner.serve.apis.ollama.inference import history
from modelrunner.serve.apis.ollama.inference.options import answer_form, sampling, whole
from modelrunner.serve.bodies.fields import InvalidBodyError, found_in, read_object
from modelrunner.text import sanitize_line

Found = tuple[Mapping[str, Any], Sequence[bytes]]
Message = Mapping[str, Any]

_SYSTEM_HEAD = b'{"messages":[{"role":"system","content":"'
_ROLES = {"system", "user", "assistant", "tool"}
_IMAGES = {"iVBOR": "png", "/9j/": "jpeg", "R0lG": "gif", "UklG": "webp", "Qk": "bmp"}
_MOST_LOGPROBS = 20


def chat(raw: bytes | bytearray) -> Found:
    """Read a request for an answer to messages.

    Raises:
        InvalidBodyError: The request is invalid.
    """
    value = read_object(raw)
    messages = value.get("messages")
    if messages is not None and not isinstance(messages, list):
        raise InvalidBodyError("`messages` is not a list", "invalid_messages")
    said = list(_messages(messages or []))
    body: dict[str, Any] = {"messages": said, **_usual(value)}
    tools = value.get("tools")
    if tools:
        body["tools"] = tools
    body |= answer_form(value.get("format"), raw=False)
    found, parts = _found(value, body, empty=not said)
    return {**found, "tools": bool(tools)}, parts


def generate(raw: bytes | bytearray) -> Found:
    """Read a request for an answer to a prompt.

    The second of the bytes is the conversation, to go on with later.

    Raises:
        InvalidBodyError: The request is invalid.
    """
    value = read_object(raw)
    prompt, system = _text(value, "prompt"), _text(value, "system")
    suffix = _text(value, "suffix")
    if _text(value, "template"):
        raise _unsupported("template", "create a model with it")
    images = value.get("images") or []
    if value.get("raw") is True or suffix:
        other = "suffix" if suffix else "raw"
        for name in ("images", "context", "logprobs"):
            if value.get(name):
                raise _unsupported(f"{name}` with `{other}", f"leave out `{other}`")
        body = {**_usual(value), **answer_form(value.get("format"), raw=True)}
        if not suffix:
            return _found(value, {**body, "prompt": prompt}, empty=not prompt, at="completions")
        if "max_tokens" in body:
            body["n_predict"] = body.pop("max_tokens")
        around = {"input_prefix": prompt, "input_suffix": suffix, "prompt": ""}
        return _found(value, {**body, **around}, empty=False, at="infill")
    before = history.decoded(value.get("context"))
    if system:
        before = [message for message in before if message.get("role") != "system"]
        before.insert(0, {"role": "system", "content": system})
    user = [{"role": "user", "content": prompt}] if prompt or images else []
    said = list(_messages([*before, *({**each, "images": images} for each in user)]))
    body = {"messages": said, **_usual(value), **answer_form(value.get("format"), raw=False)}
    # images are not said again: they would make the numbers as long as they are
    kept = json.dumps([*before, *user]).encode()
    return _found(value, body, empty=not user, more=[kept])


def embed(raw: bytes | bytearray) -> Found:
    """Read a request for vectors; `embeddings` has one text, as `prompt`.

    Raises:
        InvalidBodyError: The request is invalid.
    """
    value = read_object(raw)
    texts = value.get("input", value.get("prompt"))
    texts = [texts] if isinstance(texts, str) else texts or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidBodyError(
            "invalid `input`: expected a string or a list of strings", "invalid_input"
        )
    said = [text for text in texts if text]
    dimensions = value.get("dimensions")
    found, parts = _found(value, {"input": said}, empty=not said)
    return {
        **found,
        "dimensions": None if dimensions is None else whole("dimensions", dimensions),
        "truncate": value.get("truncate") is not False,
        "longest": max((len(text.encode()) for text in said), default=0),
    }, parts


def _found(
    value: Mapping[str, Any],
    body: Mapping[str, Any],
    *,
    empty: bool,
    at: str = "chat/completions",
    more: Sequence[bytes] = (),
) -> Found:
    model, options = value.get("model"), _options(value)
    if not isinstance(model, str) or not model:
        raise InvalidBodyError("the field `model` is missing", "no_model")
    think, keep_alive = value.get("think"), value.get("keep_alive")
    if not isinstance(think, bool | str | None):
        raise InvalidBodyError("invalid `think`: expected true, false or a level", "invalid_think")
    if not isinstance(keep_alive, bool | str | int | float | None):
        raise InvalidBodyError(
            "invalid `keep_alive`: expected a duration such as 5m", "invalid_keep_alive"
        )
    context = options.get("num_ctx")
    asked = {**body, "model": model}
    sent = json.dumps(asked, separators=(",", ":")).encode()
    fields, _tools = found_in(asked, sent)
    found = {
        "fields": fields,
        "model": model,
        "streams": value.get("stream") is not False,
        "keep_alive": keep_alive,
        "think": think,
        "context": None if context is None else whole("num_ctx", context),
        "empty": empty,
        "endpoint": at,
        "system_at": len(_SYSTEM_HEAD) if sent.startswith(_SYSTEM_HEAD) else None,
    }
    return found, (sent, *more)


def _usual(value: Mapping[str, Any]) -> dict[str, Any]:
    """What requests for text have in common."""
    found = sampling(_options(value))
    if value.get("logprobs"):
        top = value.get("top_logprobs") or 0
        if type(top) is not int or not 0 <= top <= _MOST_LOGPROBS:
            raise InvalidBodyError(
                f"`top_logprobs` is not between 0 and {_MOST_LOGPROBS}", "invalid_logprobs"
            )
        found |= {"logprobs": True, "top_logprobs": top}
    # always: what an answer is made of comes in pieces
    return {**found, "stream": True, "stream_options": {"include_usage": True}}


def _options(value: Mapping[str, Any]) -> Mapping[str, Any]:
    options = value.get("options") or {}
    if not isinstance(options, dict):
        raise InvalidBodyError("`options` is not an object", "invalid_option")
    return options


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if text is not None and not isinstance(text, str):
        raise InvalidBodyError(f"`{name}` is not a string", f"invalid_{name}")
    return text or ""


def _messages(messages: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Messages as OpenAI has them."""
    calls = _Calls()
    for message in messages:
        if not isinstance(message, dict):
            raise InvalidBodyError("a message is not an object", "invalid_messages")
        role = message.get("role")
        if role not in _ROLES:
            shown = sanitize_line(str(role), 80)
            raise InvalidBodyError(
                f"invalid role {shown!r}: expected system, user, assistant or tool",
                "invalid_messages",
            )
        found: dict[str, Any] = {"role": role, "content": _content(message)}
        if role == "assistant":
            if message.get("thinking"):
                found["reasoning_content"] = str(message["thinking"])
            if message.get("tool_calls"):
                found["tool_calls"] = calls.made(message["tool_calls"])
        elif role == "tool":
            found["tool_call_id"] = calls.answered(message)
        yield found


def _content(message: Message) -> str | list[dict[str, Any]]:
    text, images = message.get("content") or "", message.get("images") or []
    if not isinstance(text, str):
        raise InvalidBodyError("the content of a message is not a string", "invalid_messages")
    if not images:
        return text
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise InvalidBodyError("`images` is not a list of strings in Base64", "invalid_images")
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    return parts + [{"type": "image_url", "image_url": {"url": _url(image)}} for image in images]


def _url(image: str) -> str:
    if image.startswith("data:"):
        return image
    kind = next((kind for head, kind in _IMAGES.items() if image.startswith(head)), "jpeg")
    return f"data:image/{kind};base64,{image}"


class _Calls:
    """Calls of functions: Ollama tells them by their order and names, OpenAI by IDs."""

    def __init__(self) -> None:
        self._count = 0
        self._open: list[tuple[str, str]] = []

    def made(self, calls: object) -> list[dict[str, Any]]:
        """The calls of a message."""
        if not isinstance(calls, list):
            raise InvalidBodyError("`tool_calls` is not a list", "invalid_messages")
        return [self._made(call) for call in calls]

    def answered(self, message: Message) -> str:
        """The ID of the call that a message answers: the oldest of its name, or the oldest."""
        given = message.get("tool_call_id")
        if isinstance(given, str) and given:
            self._open = [entry for entry in self._open if entry[1] != given]
            return given
        name = message.get("tool_name") or message.get("name")
        same = [entry for entry in self._open if entry[0] == name]
        if not self._open:
            return "call_0"
        entry = (same or self._open)[0]
        self._open.remove(entry)
        return entry[1]

    def _made(self, call: object) -> dict[str, Any]:
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if (
            not isinstance(call, dict)
            or not isinstance(function, dict)
            or not isinstance(name, str)
        ):
            raise InvalidBodyError("a call in `tool_calls` has no function", "invalid_messages")
        given = call.get("id")
        self._count += 1
        number = given if isinstance(given, str) and given else f"call_{self._count}"
        self._open.append((name, number))
        arguments = function.get("arguments") or {}
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return {"id": number, "type": "function", "function": {"name": name, "arguments": text}}


def _unsupported(name: str, instead: str) -> InvalidBodyError:
    return InvalidBodyError(f"`{name}` is not supported: {instead}", "unsupported_field")
