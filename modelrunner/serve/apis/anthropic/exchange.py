"""One request of Anthropic's Messages: what the runtime is asked, and what its answer becomes."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import Scope

from modelrunner.serve.apis.anthropic.answer import Answer, encoded
from modelrunner.serve.apis.anthropic.request import translate
from modelrunner.serve.apis.chunks import chat_chunks
from modelrunner.serve.client.fields import Fields
from modelrunner.serve.client.request import Bodies
from modelrunner.serve.models import Served
from modelrunner.serve.relay import Question
from modelrunner.serve.upstream import BrokenOffError, Reply
from modelrunner.wire import parse_object

_JSON = [(b"content-type", b"application/json")]
_EVENTS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
_LARGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Exchange:
    """Makes questions to runtimes of requests.

    Attributes:
        bodies: What reads bodies.
    """

    bodies: Bodies

    async def __call__(self, _scope: Scope, raw: bytearray) -> Question:
        """Return the question of a request.

        Raises:
            RefusalError: It is not one, or asks for what cannot be had.
        """
        found, (chat,) = await self.bodies.run(translate, raw)
        reply = _streamed if found["stream"] else _whole
        return Question("chat/completions", bytearray(chat), Fields(**found["fields"]), reply)

    async def counted(self, _scope: Scope, raw: bytearray) -> Question:
        """Return the question of how many tokens a request has.

        Raises:
            RefusalError: As above.
        """
        found, (chat,) = await self.bodies.run(translate, raw)
        endpoint = "chat/completions/input_tokens"
        return Question(endpoint, bytearray(chat), Fields(**found["fields"]), _count)


def _streamed(reply: Reply, model: Served) -> Reply:
    return Reply(200, _EVENTS, _events(reply.body, model.name))


def _whole(reply: Reply, model: Served) -> Reply:
    return Reply(200, _JSON, _message(reply.body, model.name))


def _count(reply: Reply, _model: Served) -> Reply:
    return Reply(200, _JSON, _counted(reply.body))


async def _events(body: AsyncIterator[bytes], model: str) -> AsyncIterator[bytes]:
    answer = Answer(model)
    async for chunk in chat_chunks(body):
        pieces = [encoded(event) for event in answer.take(chunk)]
        if pieces:
            yield b"".join(pieces)
    if answer.finish is None:
        raise BrokenOffError("incomplete answer")
    yield b"".join(encoded(event) for event in answer.end())


async def _message(body: AsyncIterator[bytes], model: str) -> AsyncIterator[bytes]:
    answer = Answer(model)
    async for chunk in chat_chunks(body):
        for _event in answer.take(chunk):
            pass
    if answer.finish is None:
        raise BrokenOffError("incomplete answer")
    for _event in answer.end():
        pass
    yield json.dumps(answer.message(), separators=(",", ":")).encode()


async def _counted(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    raw = bytearray()
    async for piece in body:
        raw += piece
        if len(raw) > _LARGEST:
            raise BrokenOffError("the answer is too large")
    try:
        count = parse_object(raw).get("input_tokens")
    except ValueError as exc:
        raise BrokenOffError(str(exc)) from exc
    yield json.dumps({"input_tokens": count}).encode()
