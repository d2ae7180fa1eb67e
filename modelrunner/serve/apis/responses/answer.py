"""The answer of a runtime, a stream of a chat, as the events of a response.

Every response is made of the same events, whether its client streams or not: the items that they
come to are its output.
"""

import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modelrunner.serve.apis.chunks import Chunk, choice_in
from modelrunner.serve.apis.responses.items import seal
from modelrunner.wire import parse_object

Event = dict[str, Any]
P = TypeVar("P", bound="_Part")

_STATUSES = {"length": "incomplete", "content_filter": "incomplete"}
_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """What a request says of the answer.

    Attributes:
        custom: Names of functions that are custom tools.
        namespaces: Of functions in a namespace, by their name in the chat: namespace and name.
        summary: Whether reasoning is shown as its summary.
        sealed: Whether reasoning is also sent as `encrypted_content`.
    """

    custom: Sequence[str] = ()
    namespaces: Mapping[str, Sequence[str]] = field(default_factory=dict)
    summary: bool = False
    sealed: bool = False


@dataclass(slots=True)
class Answer:
    """An answer as it comes.

    Attributes:
        options: What the request says of it.
        output: The items that are complete.
        finish: Why the runtime ended; None while it has not.
        usage: The tokens, once they are known.
    """

    options: AnswerOptions
    output: list[dict[str, Any]] = field(default_factory=list)
    finish: str | None = None
    usage: dict[str, Any] | None = None
    _part: "_Part | None" = None
    _call: int | None = None
    _thoughts: int = 0

    @property
    def status(self) -> str:
        """How it has ended."""
        return _STATUSES.get(self.finish or "", "completed")

    @property
    def incomplete_details(self) -> dict[str, Any] | None:
        """Why it is incomplete."""
        reason = _REASONS.get(self.finish or "")
        return {"reason": reason} if reason else None

    def take(self, chunk: Chunk) -> Iterator[Event]:
        """Return the events that a piece of the runtime's stream comes to."""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = _usage(usage, self._thoughts)
        choice, delta = choice_in(chunk)
        if delta.get("reasoning_content"):
            self._thoughts += 1
            thoughts = yield from self._in(_Reasoning)
            yield from thoughts.add(delta["reasoning_content"])
        if delta.get("content"):
            text = yield from self._in(_Text)
            probabilities = choice.get("logprobs") or {}
            yield from text.add(delta["content"], probabilities.get("content") or ())
        for call in delta.get("tool_calls") or ():
            yield from self._called(call)
        if choice.get("finish_reason"):
            self.finish = choice["finish_reason"]

    def end(self) -> Iterator[Event]:
        """Return the events with which the last item ends."""
        if self._part is not None:
            part, self._part = self._part, None
            yield from part.end(self.status)
            self.output.append(part.item)

    def _in(self, kind: "type[P]") -> "Generator[Event, None, P]":
        """Begin an item of a kind, unless the last one is of it; return the item."""
        if isinstance(self._part, kind):
            return self._part
        part = kind(self._next_index, self.options)
        yield from self._begin(part)
        return part

    @property
    def _next_index(self) -> int:
        return len(self.output) + (self._part is not None)

    def _begin(self, part: "_Part") -> Iterator[Event]:
        if self._part is not None:
            # what is followed by something else is complete
            yield from self._part.end("completed")
            self.output.append(self._part.item)
        self._part, self._call = part, None
        yield from part.begin()

    def _called(self, call: Mapping[str, Any]) -> Iterator[Event]:
        function = call.get("function") or {}
        number = call.get("index", 0)
        if self._call != number or not isinstance(self._part, _Call):
            name = str(function.get("name", ""))
            begun = _Call(self._next_index, self.options, name, call.get("id") or "")
            yield from self._begin(begun)
            self._call = number
        if isinstance(self._part, _Call) and function.get("arguments"):
            yield from self._part.add(function["arguments"])


class _Part:
    """An item of the output while it is written."""

    item: dict[str, Any]

    def __init__(self, index: int, options: AnswerOptions) -> None:
        self.index = index
        self.options = options
        self.text = ""

    def begin(self) -> Iterator[Event]:
        """Return the events with which it begins."""
        # a copy: the item goes on to grow
        yield self._event("response.output_item.added", item=dict(self.item))

    def end(self, status: str) -> Iterator[Event]:
        """Return the events with which it ends."""
        self.item["status"] = status
        yield self._event("response.output_item.done", item=self.item)

    def _event(self, kind: str, **fields: Any) -> Event:  # noqa: ANN401 - fields of JSON
        return {"type": kind, "output_index": self.index, **fields}

    def _own(self, kind: str, **fields: Any) -> Event:  # noqa: ANN401 - fields of JSON
        return self._event(kind, item_id=self.item["id"], **fields)


class _Text(_Part):
    """What the model says."""

    def __init__(self, index: int, options: AnswerOptions) -> None:
        super().__init__(index, options)
        self.logprobs: list[Any] = []
        self.item = {
            "id": f"msg_{secrets.token_hex(16)}",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }

    def begin(self) -> Iterator[Event]:
        yield from super().begin()
        yield self._own("response.content_part.added", content_index=0, part=self._part())

    def add(self, text: str, probabilities: Sequence[Mapping[str, Any]] = ()) -> Iterator[Event]:
        """Return the event for a piece of text."""
        self.text += text
        found = [_logprob(each) for each in probabilities]
        self.logprobs += found
        yield self._own("response.output_text.delta", content_index=0, delta=text, logprobs=found)

    def end(self, status: str) -> Iterator[Event]:
        part = self._part()
        yield self._own(
            "response.output_text.done", content_index=0, text=self.text, logprobs=self.logprobs
        )
        yield self._own("response.content_part.done", content_index=0, part=part)
        self.item["content"] = [part]
        yield from super().end(status)

    def _part(self) -> dict[str, Any]:
        return {
            "type": "output_text",
            "text": self.text,
            "annotations": [],
            "logprobs": self.logprobs,
        }


class _Reasoning(_Part):
    """What the model thinks: as text, or as a summary for whoever asks for one."""

    def __init__(self, index: int, options: AnswerOptions) -> None:
        super().__init__(index, options)
        self.item = {
            "id": f"rs_{secrets.token_hex(16)}",
            "type": "reasoning",
            "status": "in_progress",
            "summary": [],
        }
        if not options.summary:
            self.item["content"] = []

    def begin(self) -> Iterator[Event]:
        yield from super().begin()
        yield self._piece("part.added", part=self._part())

    def add(
        self,
        text: str,
        probabilities: Sequence[Mapping[str, Any]] = (),  # noqa: ARG002 - has none
    ) -> Iterator[Event]:
        """Return the event for a piece of text."""
        self.text += text
        yield self._piece("text.delta", delta=text)

    def end(self, status: str) -> Iterator[Event]:
        yield self._piece("text.done", text=self.text)
        yield self._piece("part.done", part=self._part())
        self.item["summary" if self.options.summary else "content"] = [self._part()]
        if self.options.sealed:
            self.item["encrypted_content"] = seal(self.text)
        yield from super().end(status)

    def _piece(self, what: str, **fields: Any) -> Event:  # noqa: ANN401 - fields of JSON
        if self.options.summary:
            return self._own(f"response.reasoning_summary_{what}", summary_index=0, **fields)
        kind = f"content_{what}" if what.startswith("part") else f"reasoning_{what}"
        return self._own(f"response.{kind}", content_index=0, **fields)

    def _part(self) -> dict[str, Any]:
        kind = "summary_text" if self.options.summary else "reasoning_text"
        return {"type": kind, "text": self.text}


class _Call(_Part):
    """A call of a function, or of a custom tool."""

    def __init__(self, index: int, options: AnswerOptions, name: str, call_id: str) -> None:
        super().__init__(index, options)
        self.is_custom = name in options.custom
        namespace = options.namespaces.get(name)
        kind, prefix = ("custom_tool_call", "ctc") if self.is_custom else ("function_call", "fc")
        self.item = {
            "id": f"{prefix}_{secrets.token_hex(16)}",
            "type": kind,
            "status": "in_progress",
            "call_id": call_id or f"call_{secrets.token_hex(12)}",
            "name": namespace[1] if namespace else name,
            "input" if self.is_custom else "arguments": "",
        }
        if namespace:
            self.item["namespace"] = namespace[0]

    def add(self, text: str) -> Iterator[Event]:
        """Return the event for a piece of the arguments."""
        self.text += text
        if not self.is_custom:
            yield self._own("response.function_call_arguments.delta", delta=text)

    def end(self, status: str) -> Iterator[Event]:
        if self.is_custom:
            given = _input(self.text)
            yield self._own("response.custom_tool_call_input.delta", delta=given)
            yield self._own("response.custom_tool_call_input.done", input=given)
            self.item["input"] = given
        else:
            yield self._own(
                "response.function_call_arguments.done",
                name=self.item["name"],
                arguments=self.text,
            )
            self.item["arguments"] = self.text
        yield from super().end(status)


def _input(arguments: str) -> str:
    """The text for a custom tool; the arguments as they are where the model wrote other ones."""
    try:
        given = parse_object(arguments).get("input")
    except ValueError:
        return arguments
    return given if isinstance(given, str) else arguments


def _logprob(value: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value.get(name) for name in ("token", "bytes", "logprob")}
    return {**found, "top_logprobs": [_logprob_only(each) for each in value["top_logprobs"]]}


def _logprob_only(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.get(name) for name in ("token", "bytes", "logprob")}


def _usage(usage: Mapping[str, Any], thoughts: int) -> dict[str, Any]:
    before, after = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    details = usage.get("completion_tokens_details") or {}
    # llama.cpp sends a piece for each token, and counts none of them as thoughts
    thought = details.get("reasoning_tokens") or min(thoughts, after)
    return {
        "input_tokens": before,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": after,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": before + after,
    }
