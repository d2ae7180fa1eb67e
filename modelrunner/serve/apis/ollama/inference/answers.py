"""The answer of a runtime, a stream of a chat, as the lines of Ollama's API."""

import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelrunner.serve.apis.chunks import Chunk, choice_in, taken
from modelrunner.serve.apis.ollama.inference import history
from modelrunner.serve.apis.ollama.times import moment, nanoseconds
from modelrunner.wire import parse_object

_REASONS = {"length": "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How an answer is written.

    Attributes:
        model: The model as the client calls it.
        chats: Whether it is a message; else it is a text.
        begun: When the request came, on the monotonic clock.
        load_s: Seconds that it waited for the model.
        thoughts: Whether they are shown.
        conversation: What was said before, for `context`; None where that is not returned.
    """

    model: str
    chats: bool
    begun: float
    load_s: float = 0.0
    thoughts: bool = True
    conversation: Sequence[Mapping[str, Any]] | None = None


@dataclass(slots=True)
class Answer:
    """An answer as it comes."""

    form: Form
    text: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    logprobs: list[Mapping[str, Any]] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    finish: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, Any] = field(default_factory=dict)
    first: float | None = None

    def take(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """The lines that a piece of the runtime's stream comes to."""
        for name in ("usage", "timings"):
            if isinstance(chunk.get(name), dict):
                setattr(self, name, chunk[name])
        choice, delta = choice_in(chunk)
        if "stop" in chunk and "choices" not in chunk:
            choice = _choice(chunk)
        if "tokens_predicted" in chunk and choice.get("finish_reason"):
            tokens = chunk.get("tokens_evaluated"), chunk["tokens_predicted"]
            self.usage = dict(zip(("prompt_tokens", "completion_tokens"), tokens, strict=True))
        thought = delta.get("reasoning_content") or ""
        text = delta.get("content") or choice.get("text") or ""
        logprobs = _logprobs(choice.get("logprobs"))
        if not self.form.thoughts:
            thought = ""
        if (text or thought) and self.first is None:
            self.first = time.monotonic()
        if text or thought or logprobs:
            self.text.append(text)
            self.thoughts.append(thought)
            self.logprobs += logprobs
            yield self._line(text, thought, logprobs)
        for call in delta.get("tool_calls") or ():
            self._called(call)
        if choice.get("finish_reason"):
            self.finish = choice["finish_reason"]

    def calls_line(self) -> dict[str, Any] | None:
        """The line with the calls of functions; None without any."""
        if not self.calls:
            return None
        line = self._line("", "", [])
        line["message"]["tool_calls"] = self._tool_calls()
        return line

    def end(self) -> dict[str, Any]:
        """The last line."""
        return {**self._line("", "", []), **self._ending()}

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        line = self._line("".join(self.text), "".join(self.thoughts), self.logprobs)
        if self.calls:
            line["message"]["tool_calls"] = self._tool_calls()
        return {**line, **self._ending()}

    def _line(
        self, text: str, thought: str, logprobs: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        line: dict[str, Any] = {"model": self.form.model, "created_at": moment(time.time())}
        if self.form.chats:
            line["message"] = {"role": "assistant", "content": text}
            if thought:
                line["message"]["thinking"] = thought
        else:
            line["response"] = text
            if thought:
                line["thinking"] = thought
        line["done"] = False
        if logprobs:
            line["logprobs"] = list(logprobs)
        return line

    def _ending(self) -> dict[str, Any]:
        now, begun = time.monotonic(), self.form.begun
        first = self.first or now
        prompt_s = _seconds(self.timings.get("prompt_ms"))
        answer_s = _seconds(self.timings.get("predicted_ms"))
        if prompt_s is None:
            prompt_s = max(0.0, first - begun - self.form.load_s)
        if answer_s is None:
            answer_s = now - first
        ending: dict[str, Any] = {
            "done": True,
            "done_reason": _REASONS.get(self.finish or "", "stop"),
        }
        if self.form.conversation is not None:
            said = {"role": "assistant", "content": "".join(self.text)}
            context = history.encoded([*self.form.conversation, said])
            if context is not None:
                ending["context"] = context
        return {
            **ending,
            "total_duration": nanoseconds(now - begun),
            "load_duration": nanoseconds(self.form.load_s),
            "prompt_eval_count": _count(self.usage.get("prompt_tokens")),
            "prompt_eval_duration": nanoseconds(prompt_s),
            "eval_count": _count(self.usage.get("completion_tokens")),
            "eval_duration": nanoseconds(answer_s),
        }

    def _called(self, call: Mapping[str, Any]) -> None:
        function = call.get("function") or {}
        known = self.calls.setdefault(
            call.get("index", 0), {"id": str(call.get("id") or ""), "name": "", "arguments": ""}
        )
        known["name"] += function.get("name") or ""
        known["arguments"] += function.get("arguments") or ""

    def _tool_calls(self) -> list[dict[str, Any]]:
        found = []
        for number, (_, call) in enumerate(sorted(self.calls.items())):
            function = {
                "index": number,
                "name": call["name"],
                "arguments": _arguments(call["arguments"]),
            }
            found.append({**({"id": call["id"]} if call["id"] else {}), "function": function})
        return found


async def lines(form: Form, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a runtime's stream, whole ones only.

    Raises:
        RefusalError: The runtime says that it has failed.
        BrokenOffError: It breaks off.
    """
    answer = Answer(form)
    async for found in taken(answer, body):
        if found:
            yield b"".join(map(encoded, found))
    calls = answer.calls_line()
    last = encoded(answer.end())
    yield last if calls is None else encoded(calls) + last


async def whole(form: Form, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The answer of a runtime's stream in one piece; raises what `lines` does."""
    answer = Answer(form)
    async for _lines in taken(answer, body):
        pass
    yield encoded(answer.whole()).rstrip(b"\n")


def encoded(line: Mapping[str, Any]) -> bytes:
    """A line as JSON."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _choice(chunk: Chunk) -> dict[str, Any]:
    """A piece of llama.cpp's own stream, which `infill` has, as one of OpenAI's."""
    cut = chunk.get("stop_type") == "limit"
    finish = ("length" if cut else "stop") if chunk["stop"] else None
    return {"text": chunk.get("content"), "finish_reason": finish}


def _arguments(text: str) -> Mapping[str, Any]:
    """The arguments of a call as an object; what is not one stays a text, under its own name."""
    try:
        return parse_object(text.encode())
    except ValueError:
        return {"arguments": text} if text else {}


def _logprobs(said: object) -> list[Mapping[str, Any]]:
    entries = said.get("content") if isinstance(said, dict) else None
    if not isinstance(entries, list):
        return []
    return [
        {
            **_token(entry),
            "top_logprobs": [_token(each) for each in entry.get("top_logprobs") or ()],
        }
        for entry in entries
        if isinstance(entry, dict)
    ]


def _token(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("token", "logprob", "bytes") if name in entry}


def _seconds(milliseconds: object) -> float | None:
    return milliseconds / 1000 if isinstance(milliseconds, int | float) else None


def _count(tokens: object) -> int:
    return tokens if isinstance(tokens, int) else 0
