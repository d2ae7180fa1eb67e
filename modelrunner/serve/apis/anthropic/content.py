"""The content of Anthropic's messages, as the messages of a chat."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelrunner.serve.apis.content import text_field, unsupported_kind
from modelrunner.serve.bodies.fields import InvalidBodyError
from modelrunner.text import sanitize_line

Block = Mapping[str, Any]

_ATTRIBUTION = "x-anthropic-billing-header:"
"""How a block begins that Claude Code sends for its makers: it says nothing to a model, and differs
from request to request, so that nothing after it could be taken from a cache."""


def system_text(system: object) -> str | None:
    """Return the system prompt; None where there is none.

    Raises:
        InvalidBodyError: It is neither a text nor blocks of text.
    """
    if system is None or isinstance(system, str):
        return system
    blocks = _blocks(system, "system")
    texts = [text_field(block, "text", f"system[{number}]") for number, block in enumerate(blocks)]
    return "\n\n".join(text for text in texts if not text.startswith(_ATTRIBUTION))


def chat_messages(messages: object) -> Iterator[dict[str, Any]]:
    """Return the messages of a chat.

    Raises:
        InvalidBodyError: One of them is invalid, or has what cannot be shown to a model.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidBodyError("`messages` is missing, or is empty", "invalid_value")
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role == "user":
            yield from _of_user(_blocks(content, f"{where}.content"), f"{where}.content")
        elif role == "assistant":
            yield _of_assistant(_blocks(content, f"{where}.content"), f"{where}.content")
        elif role == "system":
            yield {"role": "system", "content": system_text(content) or ""}
        else:
            raise InvalidBodyError(
                f"`{where}.role` is {sanitize_line(str(role), 80)}: expected user or assistant",
                "invalid_value",
            )


def _of_user(blocks: Sequence[Block], where: str) -> Iterator[dict[str, Any]]:
    parts = []
    for number, block in enumerate(blocks):
        place = f"{where}[{number}]"
        if block.get("type") == "tool_result":
            given = _blocks(block.get("content") or "", f"{place}.content")
            inner = [
                part
                for index, each in enumerate(given)
                for part in _parts(each, f"{place}.content[{index}]")
            ]
            content = _folded(inner)
            if block.get("is_error") is True and isinstance(content, str):
                content = content if content.lower().startswith("error") else f"Error: {content}"
            name = text_field(block, "tool_use_id", place)
            yield {"role": "tool", "tool_call_id": name, "content": content}
        else:
            parts += _parts(block, place)
    if parts:
        yield {"role": "user", "content": _folded(parts)}


def _of_assistant(blocks: Sequence[Block], where: str) -> dict[str, Any]:
    texts, thoughts, calls = [], [], []
    for number, block in enumerate(blocks):
        place = f"{where}[{number}]"
        kind = block.get("type")
        if kind == "text":
            texts.append(text_field(block, "text", place))
        elif kind == "thinking":
            thoughts.append(text_field(block, "thinking", place))
        elif kind == "tool_use":
            arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
            function = {"name": text_field(block, "name", place), "arguments": arguments}
            calls.append(
                {"id": text_field(block, "id", place), "type": "function", "function": function}
            )
        elif kind != "redacted_thinking":
            raise unsupported_kind(kind, place)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _parts(block: Block, where: str) -> list[dict[str, Any]]:
    """A block as parts of a chat's content."""
    kind = block.get("type")
    if kind == "text":
        return [{"type": "text", "text": text_field(block, "text", where)}]
    if kind == "image":
        return [{"type": "image_url", "image_url": {"url": _image_url(block, where)}}]
    if kind == "document":
        return _document(block, where)
    if kind == "search_result":
        inner = _blocks(block.get("content"), f"{where}.content")
        texts = [text_field(each, "text", where) for each in inner]
        head = [str(block[name]) for name in ("title", "source") if block.get(name)]
        return [{"type": "text", "text": "\n".join([*head, *texts])}]
    raise unsupported_kind(kind, where)


def _image_url(block: Block, where: str) -> str:
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    if isinstance(source, dict) and kind == "base64":
        data = text_field(source, "data", f"{where}.source")
        return f"data:{text_field(source, 'media_type', f'{where}.source')};base64,{data}"
    if isinstance(source, dict) and kind == "url":
        return text_field(source, "url", f"{where}.source")
    raise InvalidBodyError(
        f"`{where}`: files cannot be read: send the image as base64 or as a URL",
        "unsupported_content",
    )


def _document(block: Block, where: str) -> list[dict[str, Any]]:
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    head = [str(block[name]) for name in ("title", "context") if block.get(name)]
    front = [{"type": "text", "text": "\n".join(head)}] if head else []
    if isinstance(source, dict) and kind == "text":
        return [*front, {"type": "text", "text": text_field(source, "data", f"{where}.source")}]
    if isinstance(source, dict) and kind == "content":
        inner = _blocks(source.get("content"), f"{where}.source.content")
        return [*front, *(part for each in inner for part in _parts(each, where))]
    raise InvalidBodyError(
        f"`{where}`: documents can only be plain text: send the text of a PDF or a file",
        "unsupported_content",
    )


def _folded(parts: Sequence[Mapping[str, Any]]) -> Any:  # noqa: ANN401 - text or a list of parts
    """Parts as one text, unless there is more than text."""
    if any(part["type"] != "text" for part in parts):
        return list(parts)
    return "\n\n".join(part["text"] for part in parts)


def _blocks(content: object, where: str) -> Sequence[Block]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise InvalidBodyError(
            f"`{where}` is neither a string nor a list of blocks", "invalid_value"
        )
    return content
