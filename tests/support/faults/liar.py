"""A server that passes on what another one answers, and lies about it as it is told.

    with Registry() as registry, Liar(registry.url) as liar:
        liar.tell([Lie("manifest", Header("Content-Length", "-1"))])

A lie is about answers to one kind of request. It changes status, headers, body or the way that the
body travels; what is sent is bytes on a socket, so that nothing makes it right again.
"""

import contextlib
import http.client
import itertools
import json
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self
from urllib.parse import urlsplit

_KINDS = (
    ("token", re.compile(r"/token")),
    ("upload", re.compile(r"/v2/.+/blobs/uploads/.*")),
    ("manifest", re.compile(r"/v2/.+/manifests/.+")),
    ("blob", re.compile(r"/v2/.+/blobs/.+")),
    ("tags", re.compile(r"/v2/.+/tags/list")),
    ("referrers", re.compile(r"/v2/.+/referrers/.+")),
    ("ping", re.compile(r"/v2/?")),
)
KINDS = (*(name for name, _ in _KINDS), "other", "any")
_BETWEEN = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_PATIENCE_S = 3


@dataclass(slots=True)
class Answer:
    """What is about to be sent."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    chunks: list[bytes] | None = None
    """What is sent instead of the body, without a length: chunks, whether they are right or not."""
    closes: bool = False
    silent: bool = False

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def put(self, name: str, *values: str) -> None:
        self.headers = [pair for pair in self.headers if pair[0].lower() != name.lower()]
        self.headers += [(name, value) for value in values]


class Change(Protocol):
    """One way to lie."""

    def __call__(self, answer: Answer) -> None:
        """Make the answer another one."""


@dataclass(frozen=True, slots=True)
class Status:
    """Another status, or what should be one."""

    text: str

    def __call__(self, answer: Answer) -> None:
        answer.status = self.text
        # after what is no last answer, the other side would wait for one
        answer.closes = answer.closes or not self.text.startswith(("2", "3", "4", "5"))


@dataclass(frozen=True, slots=True)
class Header:
    """A header as it should not be: with these values, or (with none) absent."""

    name: str
    values: tuple[str, ...]

    def __call__(self, answer: Answer) -> None:
        answer.put(self.name, *self.values)
        if self.name.lower() in _BETWEEN:
            answer.closes = True


@dataclass(frozen=True, slots=True)
class Body:
    """Another body."""

    content: bytes = field(repr=False)

    def __call__(self, answer: Answer) -> None:
        answer.body = self.content


@dataclass(frozen=True, slots=True)
class Json:
    """A body of JSON in which one value, or one key, is another."""

    at: int
    value: object
    key: str | None = None

    def __call__(self, answer: Answer) -> None:
        with contextlib.suppress(ValueError):
            document = json.loads(answer.body)
            answer.body = json.dumps(altered(document, self.at, self.value, self.key)).encode()


@dataclass(frozen=True, slots=True)
class Cut:
    """So much less of the body, or (negative) so much more, than the length says."""

    by: int

    def __call__(self, answer: Answer) -> None:
        answer.put("Content-Length", str(len(answer.body)))
        end = max(0, len(answer.body) - self.by)
        answer.body = answer.body[:end] + b"x" * -min(0, self.by)
        answer.closes = True


@dataclass(frozen=True, slots=True)
class Chunked:
    """The body in chunks, some of which are not: `sizes` stand for the right ones in turn."""

    sizes: tuple[str, ...]
    ends: bool

    def __call__(self, answer: Answer) -> None:
        third = max(1, len(answer.body) // 3)
        parts = [answer.body[at : at + third] for at in range(0, len(answer.body), third)]
        named = itertools.chain(self.sizes, itertools.repeat(""))
        answer.chunks = [
            (size or f"{len(part):x}").encode() + b"\r\n" + part + b"\r\n"
            for part, size in zip(parts, named, strict=False)
        ]
        answer.chunks += [b"0\r\n\r\n"] if self.ends else []
        answer.put("Transfer-Encoding", "chunked")
        answer.closes = True


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer: the connection ends."""

    def __call__(self, answer: Answer) -> None:
        answer.silent = True


@dataclass(slots=True)
class Lie:
    """What is said of the answers to one kind of request, after some of them were right."""

    about: str
    change: Change
    after: int = 0
    times: int = 1000

    def concerns(self, kind: str) -> bool:
        if self.about not in (kind, "any"):
            return False
        self.after -= 1
        if self.after >= 0 or self.times <= 0:
            return False
        self.times -= 1
        return True


def altered(document: object, at: int, value: object, key: str | None = None) -> object:
    """A JSON document with another value at one place, or one more key there."""
    places = list(_places(document, ()))
    path = places[at % len(places)]
    if not path:
        return value
    copy = json.loads(json.dumps(document))
    holder = copy
    for step in path[:-1]:
        holder = holder[step]
    if key is not None and isinstance(holder, dict):
        holder[key] = holder.pop(path[-1])
    else:
        holder[path[-1]] = value
    return copy


def _places(node: object, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _places(child, (*path, name))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _places(child, (*path, index))


class Liar:
    """The server; a context manager.

    Args:
        truth: The URL of who answers right.
    """

    def __init__(self, truth: str) -> None:
        self._truth = urlsplit(truth).netloc
        self._lies: list[Lie] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def tell(self, lies: Sequence[Lie]) -> None:
        """Lie in this way from now on; with none, be honest."""
        with self._lock:
            self._lies = [replace(lie) for lie in lies]

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def _spawn(self, work, *arguments) -> None:  # type: ignore[no-untyped-def]
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=work, args=arguments, name=f"liar {self.host}")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(_PATIENCE_S)
            with self._lock:
                self._open.add(connection)
            self._spawn(self._converse, connection)

    def _converse(self, connection: socket.socket) -> None:
        # who does not like what is said goes in the middle of it
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            upstream = http.client.HTTPConnection(self._truth, timeout=_PATIENCE_S)
            with contextlib.closing(upstream), connection.makefile("rb") as stream:
                while self._answer(connection, stream, upstream):
                    pass
        with self._lock:
            self._open.discard(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        connection.close()

    def _answer(self, connection, stream, upstream) -> bool:  # type: ignore[no-untyped-def]
        if stream.peek(1)[:1] == b"\x16":
            # a greeting of TLS
            return False
        method, target, *_ = stream.readline(65536).decode("latin-1").split()
        headers = http.client.parse_headers(stream)
        body = stream.read(int(headers.get("Content-Length") or 0))
        passed = {name: value for name, value in headers.items() if name.lower() != "connection"}
        upstream.request(method, target, body, passed)
        with upstream.getresponse() as reply:
            kept = [pair for pair in reply.getheaders() if pair[0].lower() not in _BETWEEN]
            length = reply.getheader("Content-Length")
            answer = Answer(f"{reply.status} {reply.reason}", kept, reply.read())
        if method == "HEAD" and length is not None:
            answer.put("Content-Length", length)
        self._lie(answer, _kind(target))
        if answer.silent:
            return False
        connection.sendall(_encoded(answer, method))
        return not answer.closes

    def _lie(self, answer: Answer, kind: str) -> None:
        with self._lock:
            told = [lie.change for lie in self._lies if lie.concerns(kind)]
        for change in told:
            change(answer)


def _kind(target: str) -> str:
    path = urlsplit(target).path
    return next((name for name, form in _KINDS if form.fullmatch(path)), "other")


def _encoded(answer: Answer, method: str) -> bytes:
    bare = answer.chunks is not None or answer.status[:3] in ("204", "304")
    # one that was told to be absent stays so: then the end of the connection is the body's
    if not bare and not answer.closes and answer.get("Content-Length") is None:
        answer.put("Content-Length", str(len(answer.body)))
    if answer.closes:
        answer.put("Connection", "close")
    lines = [f"HTTP/1.1 {answer.status}", *(f"{name}: {value}" for name, value in answer.headers)]
    head = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"
    if method == "HEAD" or answer.status[:3] in ("204", "304"):
        return head
    return head + (answer.body if answer.chunks is None else b"".join(answer.chunks))
