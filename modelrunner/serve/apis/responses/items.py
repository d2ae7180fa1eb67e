"""The items of a response's input, as the messages of a chat.

Reasoning, text and calls of one turn are items of their own, and one message in a chat.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelrunner.serve.apis.content import text_field, unsupported_kind
from modelrunner.serve.bodies.fields import InvalidBodyError
from modelrunner.text import sanitize_line

SEALED = "modelrunner:"
"""How the `encrypted_content` of reasoning begins that this server has written: base64 of text."""

Item = Mapping[str, Any]

_SYSTEM = ("system", "developer")
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_CALLS = ("function_call", "custom_tool_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output")


def seal(text: str) -> str:
    """Return reasoning as clients carry it that may not keep it in the open."""
    return SEALED + base64.b64encode(text.encode()).decode()


def function_name(item: Item) -> str:
    """The name of a function in a chat; that of one in a namespace begins with it."""
    namespace = item.get("namespace")
    name = str(item.get("name", ""))
    return f"{namespace}__{name}" if isinstance(namespace, str) and namespace else name


@dataclass(slots=True)
class Conversation:
    """Messages, as items become part of them.

    Attributes:
        system: What the messages begin with.
        messages: All others.
    """

    system: list[str] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    _turn: dict[str, Any] | None = None

    def all(self) -> list[dict[str, Any]]:
        """Return the messages of the chat."""
        self._close()
        # one message: templates refuse a second one, or one in the middle
        system = [{"role": "system", "content": "\n\n".join(self.system)}] if self.system else []
        return [*system, *self.messages]

    def add(self, item: Item, where: str) -> None:
        """Add an item.

        Args:
            item: The item.
            where: What messages call it.

        Raises:
            InvalidBodyError: It is not one, or cannot be shown to a model.
        """
        kind = item.get("type", "message" if "role" in item else None)
        if kind == "message":
            self._message(item, where)
        elif kind == "reasoning":
            self._reason(item)
        elif kind in _CALLS:
            self._call(item, where)
        elif kind in _OUTPUTS:
            self._close()
            call_id = text_field(item, "call_id", where)
            content = _content(item.get("output", ""), f"{where}.output")
            self.messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
        else:
            raise unsupported_kind(kind, where)

    def _message(self, item: Item, where: str) -> None:
        role = item.get("role")
        if role == "assistant":
            text = _content(item.get("content"), f"{where}.content", assistant=True)
            turn = self._open("content", "tool_calls")
            turn["content"] = text
        elif role in _SYSTEM:
            self._close()
            content = _content(item.get("content"), f"{where}.content")
            if isinstance(content, list):
                raise InvalidBodyError(f"`{where}.content`: a {role} message can have text only")
            if self.messages:
                self.messages.append({"role": "system", "content": content})
            else:
                self.system.append(content)
        elif role == "user":
            self._close()
            content = _content(item.get("content"), f"{where}.content")
            self.messages.append({"role": "user", "content": content})
        else:
            shown = sanitize_line(str(role), 80)
            raise InvalidBodyError(
                f"`{where}.role` is {shown}: expected user, assistant, system or developer",
                "invalid_value",
            )

    def _reason(self, item: Item) -> None:
        sealed = item.get("encrypted_content")
        text = _joined(item.get("content")) or _joined(item.get("summary"))
        if not text and isinstance(sealed, str) and sealed.startswith(SEALED):
            text = _unsealed(sealed)
        if text:
            self._open("reasoning_content", "content", "tool_calls")["reasoning_content"] = text

    def _call(self, item: Item, where: str) -> None:
        call_id = text_field(item, "call_id", where)
        text_field(item, "name", where)
        if item["type"] == "custom_tool_call":
            arguments = json.dumps({"input": text_field(item, "input", where)})
        else:
            arguments = text_field(item, "arguments", where)
        function = {"name": function_name(item), "arguments": arguments}
        turn = self._open()
        calls = turn.setdefault("tool_calls", [])
        calls.append({"id": call_id, "type": "function", "function": function})

    def _open(self, *without: str) -> dict[str, Any]:
        """Return the assistant's message that is being put together, without some fields."""
        if self._turn is not None and any(name in self._turn for name in without):
            self._close()
        if self._turn is None:
            self._turn = {"role": "assistant"}
        return self._turn

    def _close(self) -> None:
        if self._turn is not None:
            self._turn.setdefault("content", "")
            self.messages.append(self._turn)
            self._turn = None


def listed_items(given: object) -> list[dict[str, Any]]:
    """Return the items of a request's `input`.

    Raises:
        InvalidBodyError: It is neither a text nor a list of objects.
    """
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if not isinstance(given, list):
        raise InvalidBodyError("`input` is neither a string nor a list of items", "invalid_value")
    for number, item in enumerate(given):
        if not isinstance(item, dict):
            raise InvalidBodyError(f"`input[{number}]` is not an object", "invalid_value")
    return given


def as_listed(item: Item, name: str) -> dict[str, Any]:
    """Return an item of the input as a list of them shows it: with an ID and parts of content."""
    found = {"id": name, **{key: value for key, value in item.items() if key != "id"}}
    if "role" in found and isinstance(found.get("content"), str):
        kind = "output_text" if found["role"] == "assistant" else "input_text"
        part: dict[str, Any] = {"type": kind, "text": found["content"]}
        if kind == "output_text":
            part["annotations"] = []
        found = {**found, "type": "message", "status": "completed", "content": [part]}
    return found


def _content(value: object, where: str, *, assistant: bool = False) -> Any:  # noqa: ANN401 - text or a list of parts
    """Return the content of a message: a text, or parts where there is more than text."""
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise InvalidBodyError(f"`{where}` is neither a string nor a list", "invalid_value")
    parts = [_part(part, f"{where}[{number}]") for number, part in enumerate(value)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) < len(parts) and not assistant:
        return parts
    return "".join(texts) if assistant else "\n".join(texts)


def _part(part: object, where: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise InvalidBodyError(f"`{where}` is not an object", "invalid_value")
    kind = part.get("type")
    if kind in _TEXTS:
        return {"type": "text", "text": text_field(part, "text", where)}
    if kind == "refusal":
        return {"type": "text", "text": text_field(part, "refusal", where)}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    if kind in {"input_image", "input_file"}:
        raise InvalidBodyError(
            f"`{where}`: files cannot be read: send text, or an image as `image_url`",
            "unsupported_content",
        )
    raise unsupported_kind(kind, where)


def _joined(parts: object) -> str:
    texts: Iterable[object] = (
        (part.get("text") for part in parts if isinstance(part, dict))
        if isinstance(parts, Sequence) and not isinstance(parts, str)
        else ()
    )
    return "\n".join(text for text in texts if isinstance(text, str))


def _unsealed(sealed: str) -> str:
    try:
        return base64.b64decode(sealed.removeprefix(SEALED), validate=True).decode()
    except ValueError:
        return ""
