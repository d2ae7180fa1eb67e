"""One request of Anthropic's Messages: what the runtime is asked, and what its answer becomes."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import Scope

from modelrunner.serve.apis.anthropic.answer import Answer, encoded
from modelrunner.serve.apis.anthropic.request import translate
from modelrunner.serve.apis.chunks import taken
from modelrunner.serve.bodies.fields import Fields
from modelrunner.serve.bodies.request import Bodies
from modelrunner.serve.models import Served
from modelrunner.serve.relay import Question
from modelrunner.serve.upstream import EVENTS, JSON, Reply


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
    return Reply(200, EVENTS, _events(reply.body, model.name))


def _whole(reply: Reply, model: Served) -> Reply:
    return Reply(200, JSON, _message(reply.body, model.name))


def _count(reply: Reply, _model: Served) -> Reply:
    return Reply(200, JSON, _counted(reply))


async def _events(body: AsyncIterator[bytes], model: str) -> AsyncIterator[bytes]:
    answer = Answer(model)
    async for events in taken(answer, body):
        if events:
            yield b"".join(map(encoded, events))
    yield b"".join(encoded(event) for event in answer.end())


async def _message(body: AsyncIterator[bytes], model: str) -> AsyncIterator[bytes]:
    answer = Answer(model)
    async for _events_of_piece in taken(answer, body):
        pass
    for _event in answer.end():
        pass
    yield json.dumps(answer.message(), separators=(",", ":")).encode()


async def _counted(reply: Reply) -> AsyncIterator[bytes]:
    count = (await reply.value()).get("input_tokens")
    yield json.dumps({"input_tokens": count}).encode()
