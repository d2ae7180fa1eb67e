"""One request on its way: read, understood as far as needed, and handed to the model it asks for.

Bodies pass as they are, in both directions, but for the system prompt of a model that a request
does not bring: it is put into it. Of the request few fields are read. The answer is
handed on as fast as the client takes it, no faster: what it does not take stays with the runtime.
A client that goes away takes its request with it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from modelrunner.errors import ModelRunnerError
from modelrunner.runtime.base import Ability, Server
from modelrunner.serve.bodies.additions import add_system_prompt, translate
from modelrunner.serve.bodies.fields import Fields
from modelrunner.serve.bodies.request import Bodies, GoneError, check_for
from modelrunner.serve.client.dialects import ANTHROPIC, OLLAMA, Dialect, Sent, dialect_of
from modelrunner.serve.client.errors import (
    FINAL,
    RefusalError,
    key_name_of,
    refusal_for,
    refuse,
    request_id_of,
)
from modelrunner.serve.models import Kind, Served, not_found, there_are
from modelrunner.serve.observability.latency import Timing, observe, only_counts
from modelrunner.serve.observability.request_log import Recording
from modelrunner.serve.observability.usage import Usage
from modelrunner.serve.pool import BusyError, ModelPool
from modelrunner.serve.runtime_errors import RuntimeAnswer
from modelrunner.serve.upstream import BrokenOffError, Reply, asked
from modelrunner.units import format_moment

_DEAF_S = 300.0
"""How long a client may take none of its answer."""

_KEPT = 4096
"""Bytes that are kept of the beginning and the end of a stream."""

_ERROR_LIMIT = 64 * 1024
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
_LONGEST_END = 4
_EVENT_LIMIT = 4 * 1024 * 1024
"""Bytes of an event that is held back until it is complete; one that is longer is not."""

_PASSED = (b"content-type", b"content-length", b"cache-control", b"x-accel-buffering")
_EVENTS = b"text/event-stream"
_LINES = b"application/x-ndjson"
_OWN_ERRORS = (ANTHROPIC, OLLAMA)
"""Dialects whose clients do not understand an error of the runtime as it is."""

_NORMAL = range(200, 300)
_FIRST_ERROR = 400
_UNKNOWN = (404, 405)
"""What a runtime answers where it does not have an address."""
_log = logging.getLogger(__name__)

Result = TypeVar("Result")

ENDPOINTS: dict[str, Kind | None] = {
    "chat/completions": "chat",
    "chat/completions/input_tokens": "chat",
    "completions": "chat",
    "responses": "chat",
    "responses/input_tokens": "chat",
    "messages": "chat",
    "messages/count_tokens": "chat",
    "embeddings": "embedding",
    "rerank": "ranking",
    "score": "ranking",
    "audio/transcriptions": "chat",
    "infill": "chat",
    "apply-template": "chat",
    "tokenize": None,
    "detokenize": None,
    "props": None,
    "api/chat": "chat",
    "api/generate": "chat",
    "api/embed": "embedding",
    "api/embeddings": "embedding",
}
"""What can be asked, and which kind of model answers it; None for every kind."""

_UNVERSIONED = ("infill", "apply-template", "tokenize", "detokenize", "props")
"""Where runtimes have no `/v1` before it."""


@dataclass(slots=True)
class ResponseState:
    """How far an answer has come."""

    model: str = ""
    key: str = ""
    status: int = 0
    streams: bool = False
    head: bytes = b""
    tail: bytes = b""
    passed_on: float | None = None
    first: float | None = None
    usage: Usage = field(default_factory=Usage)
    recording: Recording | None = None

    def add(self, piece: bytes) -> None:
        """Note a piece of the answer."""
        if self.first is None:
            self.first = time.monotonic()
        if self.recording is not None:
            self.recording.answered(piece)
        if len(self.head) < _KEPT:
            self.head += piece[: _KEPT - len(self.head)]
        self.tail = (self.tail + piece)[-_KEPT:] if len(piece) < _KEPT else piece[-_KEPT:]
        self.usage.add(piece)


@dataclass(frozen=True, slots=True)
class Question:
    """A request in the words of a runtime.

    Attributes:
        endpoint: Where the runtime is asked.
        body: What it is sent.
        fields: What matters of that.
        reply: What makes its answer one for the client, unless it is an error; None hands it on as
            it is.
    """

    endpoint: str
    body: bytearray
    fields: Fields
    reply: Callable[[Reply, Served], Reply] | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """An answer that needs no runtime.

    Attributes:
        body: It, in JSON.
        model: The model that it is about.
    """

    body: bytes
    model: str


@dataclass(frozen=True, slots=True)
class Relay:
    """The application of one endpoint.

    Attributes:
        pool: The models.
        endpoint: What clients ask.
        bodies: What reads bodies.
        translate: What puts requests into the words of a runtime; None where they are in them.
    """

    pool: ModelPool
    endpoint: str
    bodies: Bodies
    translate: Callable[[Scope, bytearray], Awaitable[Question | Known]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun = time.monotonic()
        state = ResponseState(key=key_name_of(scope))
        try:
            async with self.bodies.read(scope, receive) as raw:
                await while_there(receive, self._answered(scope, raw, send, state))
        except RefusalError as exc:
            await self._end(scope, send, state, exc)
        except GoneError:
            # as web servers note it: the client has closed its request
            state.status = 499
        finally:
            ended = time.monotonic()
            timing = Timing(
                begun=begun,
                passed_on=state.passed_on,
                first=state.first,
                ended=ended,
                streams=state.streams,
                usage=state.usage,
            )
            self._count(state, timing)
            observe(self.pool.metrics, self.endpoint, state.model, state.status, timing)
            self.pool.requests.add(_entry(scope, state, timing))
            _log.info(
                "%s %s %s %.2f s %s%s",
                state.status,
                self.endpoint,
                state.model or "-",
                ended - begun,
                request_id_of(scope),
                f" {state.key}" if state.key else "",
            )

    async def _answered(
        self, scope: Scope, raw: bytearray, send: Send, state: ResponseState
    ) -> None:
        """Understand a request and hand it to its model.

        Raises:
            RefusalError: It is for none, or what it asks for is not to be had.
        """
        if self.pool.requests.bodies:
            state.recording = Recording()
            state.recording.asked(raw)
        if self.translate is None:
            question = Question(self.endpoint, raw, await self.bodies.understand(raw))
        else:
            asked_for = await self.translate(scope, raw)
            if isinstance(asked_for, Known):
                state.model = asked_for.model
                await _answer_at_once(asked_for, send, state)
                return
            question = asked_for
        body, fields, endpoint = question.body, question.fields, question.endpoint
        model = self._model(fields)
        state.model = model.name
        if dict(scope["headers"]).get(b"x-preload-only") == b"true":
            await self._load(model, send, state)
            return
        if not self.pool.runtime.external:
            check_for(fields, model, endpoint)
            budgets = Ability.LIMITS_THOUGHTS in self.pool.runtime.abilities
            translate(body, fields, endpoint, model, budgets=budgets)
        if model.system:
            add_system_prompt(body, fields, endpoint, model.system)
        await self._answer(scope, model, question, send, state)

    async def _load(self, model: Served, send: Send, state: ResponseState) -> None:
        """Load a model and answer nothing, as `docker model run --detach` asks for."""
        try:
            async with self.pool.borrowed(model):
                pass
        except ModelRunnerError as exc:
            raise not_loaded(exc) from exc
        state.status = 200
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _model(self, fields: Fields) -> Served:
        """The model that is asked for, if it is one for this endpoint."""
        served = self.pool.served
        wanted = fields.model
        if wanted is None and len(served) == 1:
            model: Served | None = served[0]
        elif wanted is None:
            raise RefusalError(
                400, f"the field `model` is missing: {there_are(served)}", "no_model"
            )
        else:
            try:
                model = self.pool.find(wanted)
            except ModelRunnerError as exc:
                raise refusal_for(exc) from exc
        if model is None:
            raise RefusalError(404, not_found(wanted or "", served), "model_not_found")
        if ENDPOINTS[self.endpoint] not in {None, model.kind}:
            raise RefusalError(400, _wrong_kind(model), "wrong_endpoint")
        return model

    async def _answer(
        self, scope: Scope, model: Served, question: Question, send: Send, state: ResponseState
    ) -> None:
        # once more where the runtime has ended and nothing was answered yet
        for last in (False, True):
            try:
                async with self.pool.borrowed(model) as server:
                    again = await self._ask(scope, model, server, question, send, state)
            except ModelRunnerError as exc:
                raise not_loaded(exc) from exc
            if not again:
                return
            if last:
                raise RefusalError(
                    502,
                    f"the runtime of {model.name} exited twice before it answered this request",
                    "runtime_failed",
                    [FINAL],
                )

    async def _ask(
        self,
        scope: Scope,
        model: Served,
        server: Server,
        question: Question,
        send: Send,
        state: ResponseState,
    ) -> bool:
        """Asks a server; whether it ended before it has answered anything."""
        state.passed_on = time.monotonic()
        headers = [pair for pair in scope["headers"] if pair[0] in _ASKED]
        base = server.base_url
        if question.endpoint in _UNVERSIONED:
            base = base.removesuffix("/v1")
        url = f"{base}/{question.endpoint}"
        method: str = scope["method"]
        try:
            async with asked(
                url, question.body, headers, api_key=server.api_key, method=method
            ) as reply:
                if reply.status in _UNKNOWN and not self.pool.runtime.external:
                    raise _unsupported(self.endpoint, self.pool.runtime.name)
                final = reply
                if question.reply is not None and reply.status in _NORMAL:
                    final = question.reply(reply, model)
                await _hand_on(final, model, dialect_of(scope), send, state)
        except BrokenOffError as exc:
            died = await self.pool.died(server)
            if state.status or not died:
                raise _broken_off(model, died=died) from exc
            return True
        return False

    async def _end(
        self, scope: Scope, send: Send, state: ResponseState, refusal: RefusalError
    ) -> None:
        """Report what went wrong, as far as the client can still be told."""
        if not state.status:
            state.status = refusal.status
            if state.recording is not None:
                state.recording.answered(dialect_of(scope).body(refusal.failure(scope)))
            await refuse(scope, send, refusal)
            return
        _log.warning("%s", refusal.message)
        if state.streams:
            sent = Sent(state.head, state.tail)
            last = dialect_of(scope).ending(refusal.failure(scope), sent)
            await send({"type": "http.response.body", "body": last})
        # else the body ends before its length says so, and that is the message

    def _count(self, state: ResponseState, timing: Timing) -> None:
        model, metrics = state.model, self.pool.metrics
        labels = {"model": model, "endpoint": self.endpoint, "status": str(state.status)}
        if state.key:
            labels["key"] = state.key
        metrics.add("requests_total", 1, **labels)
        if state.status not in _NORMAL:
            return
        if not only_counts(self.endpoint):
            usage = state.usage
            for figure, tokens in (("prompt", usage.prompt), ("completion", usage.completion)):
                if tokens is not None:
                    metrics.add(f"{figure}_tokens_total", tokens, model=model)
        labels = {"model": model, "endpoint": self.endpoint}
        metrics.observe("request_duration_seconds", timing.duration, **labels)
        if timing.streams and timing.first is not None:
            metrics.observe("time_to_first_token_seconds", timing.first - timing.begun, **labels)


_ASKED = (b"content-type", b"accept")


async def _answer_at_once(known: Known, send: Send, state: ResponseState) -> None:
    headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(known.body)).encode()),
    ]
    state.status = 200
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    state.add(known.body)
    await send({"type": "http.response.body", "body": known.body})


def _entry(scope: Scope, state: ResponseState, timing: Timing) -> dict[str, object]:
    """A request as the log of requests has it."""
    took, usage = timing.duration, timing.usage
    return {
        "time": format_moment(datetime.fromtimestamp(time.time() - took, UTC)),
        "id": request_id_of(scope),
        "method": scope["method"],
        "path": scope["path"],
        "model": state.model or None,
        "key": state.key or None,
        "status": state.status,
        "duration_s": round(took, 6),
        "queue_s": _rounded(timing.queue),
        "first_token_s": _rounded(timing.first_token),
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "cached_tokens": usage.cached,
        **(state.recording.to_dict() if state.recording is not None else {}),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


async def _hand_on(
    reply: Reply, model: Served, dialect: Dialect, send: Send, state: ResponseState
) -> None:
    """Hand an answer on as it comes; an error in the shape that the client understands."""
    body = reply.body
    if reply.status >= _FIRST_ERROR and not reply.header(b"content-type").startswith(_EVENTS):
        raw, body = await _beginning(reply.body)
        answer = RuntimeAnswer(reply.status, raw)
        refusal = answer.refusal(model)
        if refusal is not None and (dialect in _OWN_ERRORS or answer.is_final):
            raise refusal
    headers = [pair for pair in reply.headers if pair[0] in _PASSED]
    has_events = reply.header(b"content-type").startswith(_EVENTS)
    state.streams = has_events or reply.header(b"content-type").startswith(_LINES)

    async def begin() -> None:
        state.status = reply.status
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})

    if state.streams:
        await begin()
    async for chunk in _whole_events(body) if has_events else body:
        if not state.status:
            # not before there is something: what fails until then is an error of its own
            await begin()
        state.add(chunk)
        try:
            async with asyncio.timeout(_DEAF_S):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError as exc:
            raise GoneError from exc
    if not state.status:
        await begin()
    await send({"type": "http.response.body", "body": b""})


async def _whole_events(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The bytes of a stream, none of an event before the event is complete.

    A runtime that dies within an event would leave half of it, on which clients fail before they
    read the error that follows.
    """
    rest = bytearray()
    async for piece in body:
        # a mark may have begun in what was there before
        seen = max(0, len(rest) - _LONGEST_END)
        rest += piece
        found = [(rest.rfind(mark, seen), len(mark)) for mark in _EVENT_ENDS]
        end = max(place + length if place >= 0 else 0 for place, length in found)
        if not end and len(rest) > _EVENT_LIMIT:
            end = len(rest)
        if end:
            yield bytes(rest[:end])
            del rest[:end]
    if rest:
        yield bytes(rest)


async def _beginning(body: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """The beginning of a body, which of an error is all of it, and the body once more."""
    beginning = bytearray()
    async for piece in body:
        beginning += piece
        if len(beginning) > _ERROR_LIMIT:
            break
    raw = bytes(beginning)

    async def again() -> AsyncIterator[bytes]:
        yield raw
        async for piece in body:
            yield piece

    return raw, again()


async def while_there(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Does the work as long as the client is there; what it returns.

    Raises:
        GoneError: It went away; the work was called off.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise GoneError
        return await task
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _wrong_kind(model: Served) -> str:
    match model.kind:
        case "embedding":
            return f"{model.name} is an embedding model: use /v1/embeddings"
        case "ranking":
            return f"{model.name} is a reranking model: use /v1/rerank"
        case "chat":
            return f"{model.name} is not an embedding model: use /v1/chat/completions"


def not_loaded(error: ModelRunnerError) -> RefusalError:
    """The refusal of a request whose model cannot be loaded."""
    if isinstance(error, BusyError):
        return RefusalError(
            503, f"{error.message}; {error.hint}", "busy", [(b"retry-after", b"10")]
        )
    return refusal_for(error)


def _unsupported(endpoint: str, runtime: str) -> RefusalError:
    return RefusalError(
        501, f"the runtime {runtime} does not support /{endpoint}", "unsupported", [FINAL]
    )


def _broken_off(model: Served, *, died: bool) -> RefusalError:
    if died:
        message = (
            f"the runtime of {model.name} exited during the answer; the next request starts it "
            "again"
        )
    else:
        message = f"the runtime of {model.name} did not complete the answer"
    return RefusalError(502, message, "runtime_failed")
