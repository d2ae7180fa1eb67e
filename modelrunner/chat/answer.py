"""What a streamed answer is made of, and where a server's chunks hold it.

llama-server puts `usage` and `timings` in a last chunk without choices; other servers know no
`timings`, or call the reasoning by another name. What is not there is left out.
"""

import re
from collections.abc import Mapping
from typing import Any

from modelrunner.chat.tool_call import ToolCall
from modelrunner.frozen import frozen, record
from modelrunner.text import encodable
from modelrunner.wire import parse_json

Chunk = Mapping[str, Any]

_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""The fields in which servers send thoughts, the first that has any counts."""

_TEXTS = ("text", "content", "thinking", "reasoning", "summary", "refusal")
"""The fields in which a part of a content has its text."""

_THOUGHT = re.compile("think|reason", re.IGNORECASE)


@frozen
class Delta:
    """The next piece of an answer, or of the thoughts before it."""

    text: str
    reasoning: str


@frozen
class Usage:
    """Tokens read and written for one answer."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """How much of the context is in use after the answer."""
        return self.prompt_tokens + self.completion_tokens


@frozen
class Timings:
    """What llama-server measured: tokens that it had to read, tokens written, milliseconds."""

    prompt_n: int
    prompt_ms: float
    predicted_n: int
    predicted_ms: float

    @property
    def prompt_per_second(self) -> float:
        """Tokens read in a second."""
        return 1000 * self.prompt_n / self.prompt_ms if self.prompt_ms else 0.0

    @property
    def predicted_per_second(self) -> float:
        """Tokens written in a second."""
        return 1000 * self.predicted_n / self.predicted_ms if self.predicted_ms else 0.0


@frozen
class Done:
    """The end of an answer.

    Attributes:
        finish_reason: `length` if there was no room for more of it.
        usage: Tokens read and written.
        timings: What the server measured.
        calls: The functions that the model wants called before it goes on.
    """

    finish_reason: str
    usage: Usage | None = None
    timings: Timings | None = None
    calls: tuple[ToolCall, ...] = ()


@record
class Count:
    """What is known of an answer before its end: for one that is ended from outside.

    Attributes:
        usage: Tokens read and written; None where the server does not count as it writes.
        timings: What the server measured so far.
    """

    usage: Usage | None = None
    timings: Timings | None = None

    def feed(self, chunk: Chunk) -> None:
        """Take what a chunk says."""
        timings = timings_of(chunk)
        if timings is not None:
            cached = chunk["timings"].get("cache_n")
            read = timings.prompt_n + (cached if isinstance(cached, int) else 0)
            self.timings, self.usage = timings, Usage(read, timings.predicted_n)


def json_object(raw: str | bytes) -> Chunk:
    """A JSON object; empty if the text is anything else."""
    try:
        document = parse_json(raw)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def delta_of(chunk: Chunk) -> Delta:
    """The text and reasoning that a chunk adds; both may be empty.

    Content is a string, or a list of parts: text, thoughts, and others, of which the type is named.
    """
    match chunk:
        case {"choices": [{"delta": {} as delta}, *_]} | {
            "choices": [{"message": {} as delta}, *_]
        }:
            text, thoughts = _content(delta.get("content"))
            texts = (_text(delta.get(key)) for key in _REASONING)
            reasoning = next((found for found in texts if found), "")
            return Delta(
                encodable(text or _text(delta.get("refusal"))), encodable(reasoning or thoughts)
            )
        case {"choices": [{"text": str(text)}, *_]}:
            return Delta(encodable(text), "")
        case _:
            return Delta("", "")


def _content(content: object) -> tuple[str, str]:
    """The text and the thoughts of a message's content."""
    if not isinstance(content, list):
        return _text(content), ""
    text = thoughts = ""
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and _THOUGHT.search(kind):
            thoughts += _text(part)
        else:
            text += _text(part)
    return text, thoughts


def _text(value: object) -> str:
    """What is text in a value; something else is named by its type."""
    match value:
        case None | False:
            return ""
        case str():
            return value
        case list():
            return "".join(map(_text, value))
        case {}:
            for key in _TEXTS:
                if isinstance(value.get(key), str | list):
                    return _text(value[key])
            kind = value.get("type")
            return f"[{kind}]" if isinstance(kind, str) and kind else ""
        case _:
            return str(value)


def finish_reason_of(chunk: Chunk) -> str | None:
    """Why the answer ends here; None where it goes on."""
    match chunk:
        case {"choices": [{"finish_reason": str(reason)}, *_]}:
            return reason
        case _:
            return None


def usage_of(chunk: Chunk) -> Usage | None:
    """Return the token counts in a chunk, if it has any."""
    match chunk:
        case {"usage": {"prompt_tokens": int(prompt), "completion_tokens": int(completion)}}:
            return Usage(prompt, completion)
        case _:
            return None


def timings_of(chunk: Chunk) -> Timings | None:
    """Return the measured times in a chunk, if it has any."""
    match chunk:
        case {
            "timings": {
                "prompt_n": int(prompt_n),
                "prompt_ms": int() | float() as prompt_ms,
                "predicted_n": int(predicted_n),
                "predicted_ms": int() | float() as predicted_ms,
            }
        }:
            # bounded: a number already
            return Timings(prompt_n, float(prompt_ms), predicted_n, float(predicted_ms))
        case _:
            return None
