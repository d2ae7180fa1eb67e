"""What llama.cpp's server has beside the APIs of others, and audio: handed on as it is."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import product

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Scope

from modelrunner.serve.apis.forms import read_form
from modelrunner.serve.apis.served import Server
from modelrunner.serve.bodies.fields import Fields
from modelrunner.serve.bodies.request import Bodies
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.models import Served
from modelrunner.serve.relay import Question, Relay
from modelrunner.serve.upstream import JSON, Reply

_PREFIXES = ("", "/v1", "/engines/v1", "/engines/{engine}/v1")
_POSTED = ("tokenize", "detokenize", "apply-template", "infill")


def routes(server: Server) -> list[Route]:
    """`/tokenize`, `/detokenize`, `/apply-template`, `/infill`, `/props`, `/audio/transcriptions`.

    With and without `/v1`; llama.cpp's own clients leave it out.
    """
    pool, bodies = server.pool, server.bodies
    relays = {name: Relay(pool, name, bodies) for name in _POSTED}
    audio = "audio/transcriptions"
    relays[audio] = Relay(pool, audio, bodies, _Audio(bodies))
    found = [
        Route(f"{prefix}/{name}", relay, methods=["POST"])
        for prefix, (name, relay) in product(_PREFIXES, relays.items())
    ]
    props = Relay(pool, "props", bodies, _named)
    return [*found, *(Route(f"{prefix}/props", props, methods=["GET"]) for prefix in _PREFIXES)]


@dataclass(frozen=True, slots=True)
class _Audio:
    """Makes questions of forms with a recording."""

    bodies: Bodies

    async def __call__(self, scope: Scope, raw: bytearray) -> Question:
        kind = dict(scope["headers"]).get(b"content-type", b"")
        if not kind.lower().startswith(b"multipart/form-data"):
            message = "expected a form (multipart/form-data) with the field `file`"
            raise RefusalError(400, message, "invalid_form")
        found, _ = await self.bodies.run(read_form, raw, kind)
        return Question("audio/transcriptions", raw, Fields(model=found["model"], media="audio"))


async def _named(scope: Scope, raw: bytearray) -> Question:
    """The question of a request that names its model in the address."""
    fields = Fields(model=Request(scope).query_params.get("model"))
    return Question("props", raw, fields, _properties)


def _properties(reply: Reply, model: Served) -> Reply:
    return Reply(200, JSON, _without_path(reply, model.name))


async def _without_path(reply: Reply, name: str) -> AsyncIterator[bytes]:
    """The properties of a model; where its file lies is not for clients."""
    value = await reply.value()
    shown = {"model_path": name} if "model_path" in value else {}
    yield json.dumps({**value, **shown}).encode()
