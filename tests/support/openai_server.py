"""A tiny server that speaks OpenAI's streaming chat over real HTTP, and misbehaves on request.

```
with OpenAIServer() as server:
    server.next(says("Hel", "lo"), breaks_off("I was about to"))
    ChatClient(server.url, None, "m").stream(...)
    assert server.requests[0].body["messages"] == ...
```

Without a script it repeats what the user said last, word by word.
"""

import json
import select
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_PATIENCE_S = 240
"""How long a reply waits for a client that should go away: on a busy machine it takes its time."""


@dataclass(frozen=True)
class Request:
    """A chat request as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes = b""


@dataclass(frozen=True)
class Reply:
    """An answer in pieces, each of which goes out in its own chunk.

    Attributes:
        pieces: The bytes of the body.
        status: The HTTP status.
        kind: The content type.
        pause: Seconds before each piece.
        end: `complete` as the protocol wants it, `cut` without the last chunk, or `wait` until the
            client goes away.
    """

    pieces: tuple[bytes, ...]
    status: int = 200
    kind: str = "text/event-stream"
    pause: float = 0.0
    end: str = "complete"


def event(chunk: dict[str, Any]) -> bytes:
    """A chunk of an answer as an event; letters go out as they are, in UTF-8."""
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def delta(**fields: str) -> bytes:
    """An event that adds to the answer."""
    return event({"choices": [{"index": 0, "finish_reason": None, "delta": fields}]})


def ending(
    finish: str = "stop", usage: tuple[int, int] = (20, 10), *, timings: bool = True
) -> tuple[bytes, ...]:
    """The events after the last piece of text."""
    prompt, completion = usage
    last: dict[str, Any] = {
        "choices": [],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
    }
    if timings:
        last["timings"] = {
            "prompt_n": prompt,
            "prompt_ms": 100.0,
            "predicted_n": completion,
            "predicted_ms": 200,
        }
    closing = {"choices": [{"index": 0, "finish_reason": finish, "delta": {}}]}
    return event(closing), event(last), b"data: [DONE]\n\n"


def says(
    *texts: str,
    thinks: tuple[str, ...] = (),
    finish: str = "stop",
    usage: tuple[int, int] = (20, 10),
    timings: bool = True,
    pause: float = 0.0,
) -> Reply:
    """A whole answer, with thoughts before it."""
    role = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]})
    thoughts = [delta(reasoning_content=text) for text in thinks]
    words = [delta(content=text) for text in texts]
    end = ending(finish, usage, timings=timings)
    return Reply((role, *thoughts, *words, *end), pause=pause)


def calls(*wanted: tuple[str, str], text: str = "", before: int = 0) -> Reply:
    """Functions called by name and arguments, which come in two pieces, after `before` calls."""
    words = [delta(content=text)] if text else []
    pieces = []
    for index, (name, arguments) in enumerate(wanted):
        half = len(arguments) // 2
        function = {"name": name, "arguments": arguments[:half]}
        known = f"c{before + index}"
        begun = {"index": index, "id": known, "type": "function", "function": function}
        more = {"index": index, "function": {"arguments": arguments[half:]}}
        pieces += [_calling(begun), _calling(more)]
    return Reply((*words, *pieces, *ending("tool_calls")))


def _calling(piece: dict[str, Any]) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]})


def breaks_off(*texts: str) -> Reply:
    """The connection closes in the middle."""
    return Reply(tuple(delta(content=text) for text in texts), end="cut")


def waits(*texts: str, thinks: tuple[str, ...] = ()) -> Reply:
    """Nothing more comes after these until the client goes away."""
    thoughts = tuple(delta(reasoning_content=text) for text in thinks)
    return Reply((*thoughts, *(delta(content=text) for text in texts)), end="wait")


def fails_midway(*texts: str, message: str, field_name: str = "data") -> Reply:
    """An error event in the middle: llama-server's older releases call the field `error`."""
    error = {"code": 500, "message": message, "type": "server_error"}
    told: dict[str, Any] = error if field_name == "error" else {"error": error}
    failure = f"{field_name}: {json.dumps(told)}\n\n".encode()
    return Reply((*(delta(content=text) for text in texts), failure))


def refuses(status: int, **error: Any) -> Reply:
    """An HTTP error with OpenAI's JSON."""
    raw = json.dumps({"error": {"code": status, **error}}).encode()
    return Reply((raw,), status=status, kind="application/json")


def context_exceeded(prompt: int, context: int) -> Reply:
    """What llama-server says of a prompt that is too long."""
    return refuses(
        400,
        message=f"request ({prompt} tokens) exceeds the available context size ({context} tokens)",
        type="exceed_context_size_error",
        n_prompt_tokens=prompt,
        n_ctx=context,
    )


def chopped(reply: Reply, size: int) -> Reply:
    """The same bytes in pieces of `size`, which may end within a line or a character."""
    raw = b"".join(reply.pieces)
    pieces = tuple(raw[at : at + size] for at in range(0, len(raw), size))
    return Reply(pieces, reply.status, reply.kind, reply.pause, reply.end)


@dataclass
class OpenAIServer:
    """The server, from `with` to its end."""

    api_key: str | None = None
    port: int = 0
    chat_template: str | None = None
    """What `/props` shows, as llama-server's does."""
    requests: list[Request] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when a client went away from a reply that waits."""

    def __post_init__(self) -> None:
        self._script: deque[Reply] = deque()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler_for(self))
        self._server.daemon_threads = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def next(self, *replies: Reply) -> None:
        """What the coming requests get, one each."""
        self._script.extend(replies)

    def shown_at(self, path: str) -> object:
        """What a GET gets."""
        if path == "/props" and self.chat_template is not None:
            return {"chat_template": self.chat_template, "model_path": "/models/m.gguf"}
        return {"object": "list", "data": [{"id": "m", "object": "model"}]}

    def reply_to(self, request: Request) -> Reply:
        self.requests.append(request)
        expected = f"Bearer {self.api_key}"
        if self.api_key is not None and request.headers.get("authorization") != expected:
            return refuses(401, message="Invalid API Key", type="authentication_error")
        return self._script.popleft() if self._script else _echo(request)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _echo(request: Request) -> Reply:
    said = str(request.body["messages"][-1]["content"])
    words = said.split(" ")
    return says("You said:", *(f" {word}" for word in words))


def _send_json(request: BaseHTTPRequestHandler, value: object) -> None:
    raw = json.dumps(value).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(raw)))
    request.end_headers()
    request.wfile.write(raw)


def _handler_for(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ConnectionResetError):  # a client that leaves with bytes unread
                super().handle()

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            is_form = headers.get("content-type", "").lower().startswith("multipart/")
            body = {} if is_form else json.loads(raw)
            reply = server.reply_to(Request(self.path, headers, body, raw))
            try:
                self._send(reply)
            except (BrokenPipeError, ConnectionResetError):
                server.gone.set()
                self.close_connection = True

        def do_GET(self) -> None:
            _send_json(self, server.shown_at(self.path))

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in reply.pieces:
                time.sleep(reply.pause)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.flush()
            if reply.end == "complete":
                self.wfile.write(b"0\r\n\r\n")
                return
            self.close_connection = True
            if reply.end == "wait" and select.select([self.connection], [], [], _PATIENCE_S)[0]:
                server.gone.set()

        def log_message(self, *_: object) -> None:
            pass

    return Handler
