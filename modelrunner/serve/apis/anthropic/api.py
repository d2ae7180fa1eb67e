"""The addresses of Anthropic's API."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelrunner.serve.apis.anthropic.exchange import Exchange
from modelrunner.serve.apis.anthropic.models import described, page
from modelrunner.serve.apis.served import Server
from modelrunner.serve.relay import Relay

_PREFIXES = ("/v1", "/anthropic/v1", "/engines/v1", "/engines/{engine}/v1")


def routes(server: Server) -> Sequence[Route]:
    """`/messages` under every prefix, and Anthropic's list of models where only it is asked for."""
    pool, bodies = server.pool, server.bodies
    exchange = Exchange(bodies)
    relays: dict[str, Any] = {
        "messages": Relay(pool, "messages", bodies, exchange),
        "messages/count_tokens": Relay(pool, "messages/count_tokens", bodies, exchange.counted),
    }

    async def models(request: Request) -> Response:
        return page(request, list(pool.slots.values()))

    async def model(request: Request) -> Response:
        return JSONResponse(described(server.slot(request.path_params["model"])))

    return [
        *(
            Route(f"{prefix}/{name}", relay, methods=["POST"])
            for prefix, (name, relay) in product(_PREFIXES, relays.items())
        ),
        Route("/anthropic/v1/models", models, methods=["GET"]),
        Route("/anthropic/v1/models/{model:path}", model, methods=["GET"]),
    ]
