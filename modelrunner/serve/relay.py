"""One request on its way: read, understood as far as needed, and handed to the model it asks for.

Bodies pass as they are, in both directions. Of the request only `model` is read. The answer is
handed on as fast as the client takes it, no faster: what it does not take stays with the runtime.
A client that goes away takes its request with it.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from modelrunner.errors import CapacityError, ModelRunnerError, NotFoundError
from modelrunner.runtime.server import Server
from modelrunner.serve.figures import Figures
from modelrunner.serve.fleet import BusyError, Fleet
from modelrunner.serve.lineup import Kind, Served, find
from modelrunner.serve.refusals import FINAL, RefusalError, refuse
from modelrunner.serve.upstream import BrokenOffError, Reply, asked
from modelrunner.text import sanitize_line

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of one request: several photographs, which JSON makes a third larger."""

_SILENCE_S = 30.0
"""How long a client may take for the next piece of its request."""

_DEAF_S = 300.0
"""How long a client may take none of its answer."""

_TAIL = 4096
_PROMPT = re.compile(rb'"(?:prompt_tokens|prompt_n|input_tokens)":\s*(\d{1,12})')
_COMPLETION = re.compile(rb'"(?:completion_tokens|predicted_n|output_tokens)":\s*(\d{1,12})')
_PASSED = (b"content-type", b"content-length", b"cache-control", b"x-accel-buffering")
_EVENTS = b"text/event-stream"
_NORMAL = range(200, 300)
_log = logging.getLogger(__name__)

ENDPOINTS: dict[str, Kind] = {
    "chat/completions": "chat",
    "completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "messages/count_tokens": "chat",
    "embeddings": "embedding",
    "rerank": "ranking",
}
"""What can be asked, under every prefix, and which kind of model answers it."""


class GoneError(Exception):
    """The client went away."""


@dataclass(slots=True)
class Course:
    """How far an answer has come."""

    status: int = 0
    streams: bool = False
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Relay:
    """The application of one endpoint."""

    fleet: Fleet
    figures: Figures
    endpoint: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        begun = time.monotonic()
        course, name = Course(), ""
        try:
            body = await _read(scope, receive)
            model = self._model(body)
            name = model.name
            await _while_there(receive, self._answer(scope, model, body, send, course))
        except RefusalError as exc:
            await self._end(send, course, exc)
        except GoneError:
            # as web servers note it: the client has closed its request
            course.status = 499
        finally:
            self._count(course, name, time.monotonic() - begun)

    def _model(self, body: bytes) -> Served:
        """The model that is asked for, if it is one for this endpoint."""
        served = self.fleet.served
        wanted = _model_in(body)
        if wanted is None and len(served) == 1:
            model: Served | None = served[0]
        elif wanted is None:
            raise RefusalError(400, f"the field `model` is missing: {_names(served)}", "no_model")
        else:
            model = find(served, wanted)
        if model is None:
            shown = sanitize_line(wanted or "", 200)
            raise RefusalError(
                404, f"{shown} is not served here: {_names(served)}", "model_not_found"
            )
        if model.kind != ENDPOINTS[self.endpoint]:
            raise RefusalError(400, _wrong_kind(model), "wrong_endpoint")
        return model

    async def _answer(
        self, scope: Scope, model: Served, body: bytes, send: Send, course: Course
    ) -> None:
        # once more where the runtime has ended and nothing was answered yet
        for last in (False, True):
            try:
                async with self.fleet.borrowed(model) as server:
                    again = await self._ask(scope, model, server, body, send, course)
            except ModelRunnerError as exc:
                raise _not_loaded(exc) from exc
            if not again:
                return
            if last:
                raise _broken_off(model, died=True)

    async def _ask(
        self,
        scope: Scope,
        model: Served,
        server: Server,
        body: bytes,
        send: Send,
        course: Course,
    ) -> bool:
        """Asks a server; whether it ended before it has answered anything."""
        headers = [pair for pair in scope["headers"] if pair[0] in _ASKED]
        url = f"{server.base_url}/{self.endpoint}"
        try:
            async with asked(url, body, headers, api_key=server.api_key) as reply:
                await _hand_on(reply, send, course)
        except BrokenOffError as exc:
            died = await self.fleet.died(server)
            if course.status or not died:
                raise _broken_off(model, died=died) from exc
            return True
        return False

    async def _end(self, send: Send, course: Course, refusal: RefusalError) -> None:
        """Tells the client what went wrong, as far as it can still be told."""
        if not course.status:
            course.status = refusal.status
            await refuse(send, refusal)
            return
        _log.warning("%s", refusal.message)
        if course.streams:
            await send({"type": "http.response.body", "body": refusal.event})
        # else the body ends before its length says so, and that is the message

    def _count(self, course: Course, model: str, took: float) -> None:
        self.figures.add(
            "requests_total", model=model, endpoint=self.endpoint, status=str(course.status)
        )
        if course.status in _NORMAL:
            for figure, pattern in (("prompt", _PROMPT), ("completion", _COMPLETION)):
                found = pattern.findall(course.tail)
                if found:
                    self.figures.add(f"{figure}_tokens_total", int(found[-1]), model=model)
        _log.info("%s %s %s %.2f s", course.status, self.endpoint, model or "-", took)


_ASKED = (b"content-type", b"accept")


async def _hand_on(reply: Reply, send: Send, course: Course) -> None:
    headers = [pair for pair in reply.headers if pair[0] in _PASSED]
    course.streams = reply.header(b"content-type").startswith(_EVENTS)
    course.status = reply.status
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    async for chunk in reply.body:
        course.tail = (course.tail + chunk)[-_TAIL:] if len(chunk) < _TAIL else chunk[-_TAIL:]
        try:
            async with asyncio.timeout(_DEAF_S):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError as exc:
            raise GoneError from exc
    await send({"type": "http.response.body", "body": b""})


async def _while_there(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Does the work as long as the client is there.

    Raises:
        GoneError: It went away; the work was called off.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise GoneError
        await task
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(scope: Scope, receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        RefusalError: It is too large, or does not come.
        GoneError: The client went away.
    """
    said = dict(scope["headers"]).get(b"content-length", b"0")
    if int(said) > BODY_LIMIT:
        raise _too_large()
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(_SILENCE_S):
                message = await receive()
        except TimeoutError as exc:
            raise RefusalError(408, "the request does not come to its end", "timeout") from exc
        if message["type"] == "http.disconnect":
            raise GoneError
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > BODY_LIMIT:
            raise _too_large()
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


def _model_in(body: bytes) -> str | None:
    """The field `model` of a request.

    Raises:
        RefusalError: The request is no JSON object, or its model no text.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise RefusalError(400, f"the request is no JSON: {_shown(exc)}", "invalid_json") from exc
    if not isinstance(value, dict):
        raise RefusalError(400, "the request is no JSON object", "invalid_json")
    model = value.get("model")
    if model is not None and not isinstance(model, str):
        raise RefusalError(400, "the field `model` is no text", "invalid_model")
    return model or None


def _shown(error: Exception) -> str:
    return "too deep" if isinstance(error, RecursionError) else sanitize_line(str(error), 200)


def _too_large() -> RefusalError:
    limit = BODY_LIMIT // (1024 * 1024)
    return RefusalError(413, f"the request has more than {limit} MiB", "request_too_large")


def _names(served: list[Served]) -> str:
    return f"there is {', '.join(model.name for model in served)}"


def _wrong_kind(model: Served) -> str:
    match model.kind:
        case "embedding":
            return f"{model.name} is an embedding model: it makes vectors; ask /v1/embeddings"
        case "ranking":
            return f"{model.name} is a reranking model: it scores documents; ask /v1/rerank"
        case "chat":
            return f"{model.name} writes text, it makes no vectors; ask /v1/chat/completions"


def _not_loaded(error: ModelRunnerError) -> RefusalError:
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    if isinstance(error, BusyError):
        return RefusalError(503, message, "busy", [(b"retry-after", b"10")])
    if isinstance(error, CapacityError):
        return RefusalError(507, message, error.code, [FINAL])
    status = 404 if isinstance(error, NotFoundError) else 500
    return RefusalError(status, message, error.code, [FINAL])


def _broken_off(model: Served, *, died: bool) -> RefusalError:
    if died:
        message = f"the runtime of {model.name} ended in the middle; the next request starts it"
    else:
        message = f"the runtime of {model.name} broke off"
    return RefusalError(502, message, "runtime_failed")
