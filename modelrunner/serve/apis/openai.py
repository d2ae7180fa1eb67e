"""OpenAI's API: what models answer, and which there are."""

from dataclasses import dataclass
from itertools import product

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelrunner.serve.apis.anthropic.models import described, is_anthropics, page
from modelrunner.serve.apis.completions import Completions
from modelrunner.serve.apis.served import Server, capabilities_of, size_of
from modelrunner.serve.pool import Slot
from modelrunner.serve.relay import Relay

_PREFIXES = ("/v1", "/engines/v1", "/engines/{engine}/v1", "/engines")
"""The last one is for clients that append nothing to what Docker's libraries call the base."""

_ENDPOINTS = (
    "chat/completions",
    "chat/completions/input_tokens",
    "completions",
    "embeddings",
    "rerank",
)
# without a version, as Docker Model Runner has it
_RANKING = ("/rerank", "/engines/rerank", "/engines/{engine}/rerank")


def routes(server: Server) -> list[Route]:
    """`/v1`, and the same where clients of Docker Model Runner ask."""
    api, pool = _Api(server), server.pool
    relays = {name: Relay(pool, name, server.bodies) for name in _ENDPOINTS}
    completions = Completions(server.bodies)
    relays["completions"] = Relay(pool, "completions", server.bodies, completions)
    found = [
        Route(f"{prefix}/{endpoint}", relays[endpoint], methods=["POST"])
        for prefix, endpoint in product(_PREFIXES, _ENDPOINTS)
    ]
    found += [Route(path, relays["rerank"], methods=["POST"]) for path in _RANKING]
    for prefix in _PREFIXES:
        found += [
            Route(f"{prefix}/models", api.models, methods=["GET"]),
            Route(f"{prefix}/models/{{model:path}}", api.model, methods=["GET"]),
        ]
    return found


@dataclass(frozen=True, slots=True)
class _Api:
    server: Server

    async def models(self, request: Request) -> Response:
        if is_anthropics(request):
            return page(request, list(self.server.pool.slots.values()))
        models = [_described(slot) for slot in self.server.pool.slots.values()]
        return JSONResponse({"object": "list", "data": models})

    async def model(self, request: Request) -> Response:
        slot = self.server.slot(request.path_params["model"])
        return JSONResponse(described(slot) if is_anthropics(request) else _described(slot))


def _described(slot: Slot) -> dict[str, object]:
    model = slot.model
    return {
        "id": model.name,
        "object": "model",
        "created": model.facts.created or 0,
        "owned_by": "modelrunner",
        "dmr": {
            "context_window": slot.context,
            "architecture": model.facts.architecture,
            "parameters": model.facts.parameters,
            "quantization": model.facts.quantization,
            "size": size_of(model.facts),
            "capabilities": capabilities_of(model),
        },
    }
