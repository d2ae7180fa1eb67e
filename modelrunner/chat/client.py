"""Ask a server that speaks OpenAI's HTTP, and hear the answer while it is made.

```
POST <base>/v1/chat/completions    {"stream": true, "messages": [..], ..}
POST <base>/v1/completions         {"stream": true, "prompt": "..", ..}   to continue a text
data: {"choices": [{"delta": {"reasoning_content": "Hm"}}]}     Delta("", "Hm")
data: {"choices": [{"delta": {"content": "Hello"}}]}            Delta("Hello", "")
data: {"choices": [{"finish_reason": "stop", "delta": {}}]}
data: {"choices": [], "usage": {..}, "timings": {..}}           timings: llama-server only
data: [DONE]                                                    Done("stop", Usage, Timings)
```

The standard library's client is enough for one request at a time, and it knows no proxies: what is
meant for loopback cannot leave it by way of the environment.
"""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from modelrunner.chat.answer import (
    Count,
    Delta,
    Done,
    Timings,
    Usage,
    delta_of,
    finish_reason_of,
    json_object,
    timings_of,
    usage_of,
)
from modelrunner.chat.arrival import Arriving, Connection, together
from modelrunner.chat.conversation import Message
from modelrunner.chat.repetition import until_repeated
from modelrunner.chat.sse import DONE, Event, events
from modelrunner.chat.tool_call import ToolCalls
from modelrunner.chat.turn_end import STOP_TEXTS, until_turn_ends
from modelrunner.errors import (
    ContextExceededError,
    ModelRunnerError,
    RuntimeFailedError,
    UnauthorizedError,
)
from modelrunner.frozen import field, frozen, replace
from modelrunner.net import http_connection
from modelrunner.text import encodable, sanitize_line

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

_CONNECT_TIMEOUT = 10.0
_CHUNK = 64 * 1024
_SHOWN = 300
_ERROR_LIMIT = 64 * 1024
_OK = 200
_UNAUTHORIZED = 401
_NOTHING: Mapping[str, object] = {}


@frozen
class SamplingOptions:
    """How the answer is chosen; what is None is left to the server."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    repeat_penalty: float | None = None
    response_format: Mapping[str, object] | None = None
    thinking: Mapping[str, object] = field(default_factory=dict)
    """Fields that ask for more or fewer thoughts, where messages are answered."""
    system_words: str | None = None
    """Words at the end of the system prompt that do the same."""

    def to_completion(self) -> dict[str, object]:
        """The fields of a request to continue a text: llama.cpp takes a schema by itself there."""
        given = self.to_dict()
        form = given.get("response_format")
        match form:
            case {"json_schema": {"schema": schema}}:
                given["json_schema"] = schema
            case {"type": "json_object"}:
                given["json_schema"] = {"type": "object"}
            case _:
                pass
        return given

    def to_dict(self) -> dict[str, object]:
        """The fields of a request: only those that are set."""
        given: dict[str, object] = {
            "temperature": self.temperature,
            "repeat_penalty": self.repeat_penalty,
            "top_p": self.top_p,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop) or None,
            "response_format": self.response_format,
        }
        return {name: value for name, value in given.items() if value is not None}


@frozen
class ChatClient:
    """A model behind an URL, with or without `/v1` at its end.

    Attributes:
        base_url: Where it is.
        api_key: What it wants to see, if anything.
        model: Its name there.
        patience_s: Seconds without any sign after which it is given up. For a server that reports
            how far it has read a long prompt, as llama-server does; None waits as long as it takes.
        completes: Whether the model continues the last message as text, without a chat template
            and without what was said before.
        stop_markers: Turn markers that end an answer wherever they stand.
        own_markers: Turn markers that end an answer where they stand as between two turns.
        stops_loops: Whether an answer that repeats itself to no end is stopped.
    """

    base_url: str
    api_key: str | None = field(repr=False)
    model: str
    patience_s: float | None = None
    completes: bool = False
    stop_markers: tuple[str, ...] = ()
    own_markers: frozenset[str] = frozenset()
    stops_loops: bool = True

    def stream(
        self,
        messages: Sequence[Message],
        options: SamplingOptions,
        tools: Mapping[str, object] = _NOTHING,
    ) -> Generator[Delta | Done, None, None]:
        """The answer piece by piece, `Done` last; closing the generator stops the server's work.

        Args:
            messages: What was said so far.
            options: How the answer is chosen.
            tools: The fields that describe tools: `tools`, `tool_choice`.

        Raises:
            ContextExceededError: The messages are longer than the model's context.
            UnauthorizedError: The server wants another API key.
            RuntimeFailedError: The server is not there, refuses, or breaks off.
        """
        from http.client import HTTPException

        stops = options.stop + tuple(each for each in self.stop_markers if each in STOP_TEXTS)
        path, asked = self._question(messages, replace(options, stop=stops), tools)
        # a server that says how far it has read can count as it writes, too
        counts = {"return_progress": True, "timings_per_token": True}
        body = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({} if self.patience_s is None else counts),
            **asked,
        }
        with closing(self._connect()) as connection:
            # a reply after which the connection closes takes it away
            connected = connection.sock
            with closing(self._post(connection, path, body)) as reply:
                self._check(reply)
                arriving = Arriving(_chunks(reply), Connection(reply, connected))
                try:
                    yield from together(self._bounded(events(arriving)), arriving)
                except TimeoutError as exc:
                    raise self._silent() from exc
                except (OSError, HTTPException) as exc:
                    raise self._broken_off() from exc

    def _question(
        self, messages: Sequence[Message], options: SamplingOptions, tools: Mapping[str, object]
    ) -> tuple[str, Mapping[str, object]]:
        """Return where to ask, and the fields that are the question."""
        if self.completes:
            text = messages[-1].content if messages else ""
            return "completions", {"prompt": encodable(text), **options.to_completion()}
        said = [message.to_dict() for message in _with_words(messages, options.system_words)]
        fields = {**options.to_dict(), **options.thinking, **tools}
        return "chat/completions", {"messages": said, **fields}

    def _connect(self) -> "HTTPConnection":
        import socket

        connection = http_connection(self.base_url, _CONNECT_TIMEOUT)
        try:
            connection.connect()
        except OSError as exc:
            connection.close()
            raise RuntimeFailedError(f"no response from {self.base_url}") from exc
        # reading a long prompt takes minutes on a slow machine, and sends nothing meanwhile
        connection.sock.settimeout(self.patience_s)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def _post(
        self, connection: "HTTPConnection", endpoint: str, body: Mapping[str, object]
    ) -> "HTTPResponse":
        from http.client import HTTPException
        from urllib.parse import urlsplit

        path = urlsplit(self.base_url).path.rstrip("/").removesuffix("/v1")
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        try:
            connection.request("POST", f"{path}/v1/{endpoint}", json.dumps(body), headers)
            return connection.getresponse()
        except TimeoutError as exc:
            raise self._silent() from exc
        except (OSError, HTTPException) as exc:
            raise RuntimeFailedError(
                f"{self.base_url} closed the connection before it answered", broke_off=True
            ) from exc

    def _check(self, reply: "HTTPResponse") -> None:
        from http.client import HTTPException

        kind = reply.headers.get_content_type()
        if reply.status == _OK and kind == "text/event-stream":
            return
        if reply.status == _OK:
            raise RuntimeFailedError(
                f"expected a stream from {self.base_url}, got {sanitize_line(kind)}"
            )
        try:
            raw = reply.read(_ERROR_LIMIT)
        except (OSError, HTTPException, ValueError, OverflowError):
            raw = b""  # the status alone has to do
        raise self._refusal(reply.status, json_object(raw).get("error"))

    def _bounded(self, stream: Iterator[Event]) -> Iterator[Delta | Done]:
        """The answer up to the end of its turn, and until it repeats itself to no end."""
        count = Count()
        pieces = self._answer(stream, count)
        if self.stop_markers:
            pieces = until_turn_ends(pieces, self.stop_markers, anywhere=True)
        if self.own_markers:
            pieces = until_turn_ends(pieces, self.own_markers, anywhere=False)
        for piece in until_repeated(pieces) if self.stops_loops else pieces:
            if isinstance(piece, Done) and piece.usage is None:
                # it was not the server that ended it
                yield replace(piece, usage=count.usage, timings=piece.timings or count.timings)
            else:
                yield piece

    def _answer(self, stream: Iterator[Event], count: Count) -> Iterator[Delta | Done]:
        """A piece for each event, empty where it says nothing."""
        reason: str | None = None
        usage: Usage | None = None
        timings: Timings | None = None
        calls = ToolCalls()
        for event in stream:
            if event.data == DONE:
                reason = reason or "stop"
                break
            chunk = json_object(event.data)
            if not chunk:
                raise RuntimeFailedError(f"invalid event in the stream from {self.base_url}")
            if event.name == "error" or chunk.get("error"):
                raise self._refusal(None, chunk.get("error") or chunk)
            count.feed(chunk)
            yield delta_of(chunk)
            calls.feed(chunk)
            reason = finish_reason_of(chunk) or reason
            usage = usage_of(chunk) or usage
            timings = timings_of(chunk) or timings
        if reason is None:
            raise self._broken_off()
        yield Done(sanitize_line(reason), usage, timings, calls.whole)

    def _silent(self) -> RuntimeFailedError:
        return RuntimeFailedError(
            f"no response from {self.base_url} for {self.patience_s:g} s",
            hint="try another prompt or format: the model's chat template may loop, or no answer "
            "can match the format",
        )

    def _broken_off(self) -> RuntimeFailedError:
        return RuntimeFailedError(
            f"connection to {self.base_url} lost in the middle of the answer",
            hint="use a smaller context or model if it ran out of memory",
            broke_off=True,
        )

    def _refusal(self, status: int | None, error: object) -> ModelRunnerError:
        """What the server says is wrong, as an error of ours.

        llama-server, llama-cpp-python and vLLM name a prompt that is too long differently.
        """
        body_error = error if isinstance(error, dict) else {"message": error}
        message = sanitize_line(str(body_error.get("message") or ""))
        kinds = (body_error.get("type"), body_error.get("code"))
        if (
            "exceed_context_size_error" in kinds
            or "context_length_exceeded" in kinds
            or "maximum context length" in message
        ):
            return _context_exceeded(body_error, message)
        if status == _UNAUTHORIZED:
            return UnauthorizedError(f"{self.base_url} rejected the API key")
        what = "failed" if status is None else f"returned HTTP {status}"
        reason = f": {message}" if message else ""
        return RuntimeFailedError(
            f"{self.base_url} {what}{reason}", status=status, server_message=message
        )


def error_text(raw: bytes) -> str:
    """Return what the body of an error says for people; empty for JSON or HTML without that."""
    body = json_object(raw)
    error = body.get("error")
    inner = error.get("message") if isinstance(error, dict) else error
    for text in (inner, body.get("message"), body.get("detail")):
        if isinstance(text, str) and text:
            return sanitize_line(text, _SHOWN)
    text = raw.decode(errors="replace").strip()
    return "" if text.startswith(("{", "[", "<")) else sanitize_line(text, _SHOWN)


def _with_words(messages: Sequence[Message], words: str | None) -> Sequence[Message]:
    """Return the messages with words at the end of the system prompt."""
    if words is None:
        return messages
    if messages and messages[0].role == "system":
        first, *rest = messages
        return [replace(first, content=f"{first.content}\n{words}"), *rest]
    return [Message("system", words), *messages]


def _context_exceeded(body_error: Mapping[str, Any], message: str) -> ContextExceededError:
    prompt, context = body_error.get("n_prompt_tokens"), body_error.get("n_ctx")
    hint = "shorten the prompt, or start the model with a larger context"
    if isinstance(prompt, int) and isinstance(context, int):
        text = f"the prompt has {prompt} tokens, the context is {context}"
        return ContextExceededError(text, hint=hint, prompt_tokens=prompt, context=context)
    return ContextExceededError(f"the prompt is longer than the context: {message}", hint=hint)


def _chunks(reply: "HTTPResponse") -> Iterator[bytes]:
    while chunk := _read(reply):
        yield chunk


def _read(reply: "HTTPResponse") -> bytes:
    from http.client import HTTPException

    try:
        return reply.read1(_CHUNK)
    except (ValueError, OverflowError) as exc:
        # a length or a chunk's size as the server sent it
        raise HTTPException("invalid length") from exc
