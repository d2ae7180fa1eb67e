"""The answer of a runtime, a stream of a chat, as Anthropic's events and message."""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelrunner.serve.apis.chunks import Chunk, choice_in
from modelrunner.wire import parse_object

Event = dict[str, Any]

_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


@dataclass(slots=True)
class Answer:
    """An answer as it comes.

    Attributes:
        model: Whose it is.
        content: The blocks that have begun; the last one may grow.
        finish: Why the runtime ended; None while it has not.
    """

    model: str
    content: list[dict[str, Any]] = field(default_factory=list)
    finish: str | None = None
    _name: str = field(default_factory=lambda: f"msg_{secrets.token_hex(12)}")
    _begun: bool = False
    _open: bool = False
    _call: int | None = None
    _arguments: str = ""
    _stop: str | None = None
    _prompt: int = 0
    _cached: int = 0
    _written: int = 0

    def message(self) -> dict[str, Any]:
        """Return the whole message."""
        return {**self._head(), **self._delta(), "content": self.content, "usage": self._usage()}

    def take(self, chunk: Chunk) -> Iterator[Event]:
        """Return the events that a piece of the runtime's stream comes to."""
        self._count(chunk)
        choice, delta = choice_in(chunk)
        if not self._begun and "prompt_progress" not in chunk:
            self._begun = True
            yield {
                "type": "message_start",
                "message": {**self._head(), "content": [], "usage": self._usage()},
            }
        if delta.get("reasoning_content"):
            yield from self._add("thinking", delta["reasoning_content"])
        if delta.get("content"):
            yield from self._add("text", delta["content"])
        for call in delta.get("tool_calls") or ():
            yield from self._called(call)
        if choice.get("finish_reason"):
            self.finish = choice["finish_reason"]
            said = chunk.get("__verbose")
            if isinstance(said, dict) and said.get("stop_type") == "word":
                self._stop = said.get("stopping_word")

    def end(self) -> Iterator[Event]:
        """Return the events with which it ends."""
        yield from self._close()
        yield {"type": "message_delta", "delta": self._delta(), "usage": self._usage()}
        yield {"type": "message_stop"}

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._name,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": self.content,
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _delta(self) -> dict[str, Any]:
        reason = _REASONS.get(self.finish or "", "end_turn")
        if self._stop is not None and reason == "end_turn":
            return {"stop_reason": "stop_sequence", "stop_sequence": self._stop}
        return {"stop_reason": reason, "stop_sequence": None}

    def _usage(self) -> dict[str, int]:
        return {
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self._cached,
            "input_tokens": self._prompt - self._cached,
            "output_tokens": self._written,
        }

    def _count(self, chunk: Chunk) -> None:
        progress, usage = chunk.get("prompt_progress"), chunk.get("usage")
        if isinstance(progress, dict):
            self._prompt, self._cached = progress.get("total") or 0, progress.get("cache") or 0
        if isinstance(usage, dict):
            details = usage.get("prompt_tokens_details") or {}
            self._prompt = usage.get("prompt_tokens") or 0
            self._cached = details.get("cached_tokens") or 0
            self._written = usage.get("completion_tokens") or 0

    def _add(self, kind: str, text: str) -> Iterator[Event]:
        if not self._open or self.content[-1]["type"] != kind:
            block: dict[str, Any] = {"type": kind, kind: ""}
            yield from self._begin(block | ({"signature": ""} if kind == "thinking" else {}))
        self.content[-1][kind] += text
        yield self._piece({"type": f"{kind}_delta", kind: text})

    def _called(self, call: Mapping[str, Any]) -> Iterator[Event]:
        function = call.get("function") or {}
        number = call.get("index", 0)
        if not self._open or self.content[-1]["type"] != "tool_use" or self._call != number:
            block: dict[str, Any] = {
                "type": "tool_use",
                "id": call.get("id") or f"toolu_{secrets.token_hex(12)}",
                "name": str(function.get("name", "")),
                "input": {},
            }
            yield from self._begin(block)
            self._call, self._arguments = number, ""
        if function.get("arguments"):
            self._arguments += function["arguments"]
            yield self._piece({"type": "input_json_delta", "partial_json": function["arguments"]})

    def _begin(self, block: dict[str, Any]) -> Iterator[Event]:
        yield from self._close()
        self.content.append(block)
        self._open = True
        # a copy: the block goes on to grow
        yield self._of_block("content_block_start", content_block=dict(block))

    def _close(self) -> Iterator[Event]:
        if not self._open:
            return
        self._open = False
        block = self.content[-1]
        if block["type"] == "thinking":
            yield self._piece({"type": "signature_delta", "signature": ""})
        if block["type"] == "tool_use":
            block["input"] = _input(self._arguments)
        yield self._of_block("content_block_stop")

    def _piece(self, delta: Mapping[str, Any]) -> Event:
        return self._of_block("content_block_delta", delta=delta)

    def _of_block(self, kind: str, **fields: Any) -> Event:  # noqa: ANN401 - fields of JSON
        return {"type": kind, "index": len(self.content) - 1, **fields}


def encoded(event: Event) -> bytes:
    """Return an event as it is sent."""
    data = json.dumps(event, separators=(",", ":")).encode()
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), data)


def _input(arguments: str) -> dict[str, Any]:
    """The arguments of a call; none where they were cut."""
    try:
        return parse_object(arguments or "{}")
    except ValueError:
        return {}
