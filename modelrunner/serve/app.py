"""The application: which address answers what.

```
POST /v1/chat/completions ...         to the model; also under /engines/v1 and /engines/NAME/v1,
                                      as clients of Docker Model Runner ask
GET  /v1/models[/MODEL]               what is served, for OpenAI's clients
GET  /models[/MODEL]                  the same for Docker Model Runner's
GET  /engines/ps, POST /engines/unload
GET  /health, /metrics
GET  /                                for people: what is served, and how to ask
```
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from modelrunner.serve.client.access import Door, Guarded
from modelrunner.serve.client.arrival import Arrival
from modelrunner.serve.client.dialects import dialect_of
from modelrunner.serve.client.errors import FINAL, RefusalError, request_id_of
from modelrunner.serve.client.fields import InvalidBodyError, read_object
from modelrunner.serve.client.limits import Limited
from modelrunner.serve.client.request import Bodies, GoneError, refusal_of
from modelrunner.serve.metrics import Labels, joined
from modelrunner.serve.models import Called, Served, find
from modelrunner.serve.page import Page
from modelrunner.serve.pool import Fleet, Seat
from modelrunner.serve.process.records import CONTROL
from modelrunner.serve.relay import ENDPOINTS, Relay
from modelrunner.text import listed
from modelrunner.units import format_moment, format_size

_PREFIXES = ("/v1", "/engines/v1", "/engines/{engine}/v1")
# without a version, as Docker Model Runner has it
_RANKING = ("/rerank", "/engines/rerank", "/engines/{engine}/rerank")
_CONTROL_LIMIT = 16 * 1024
_MOST_NAMES = 256
_log = logging.getLogger(__name__)


def application(fleet: Fleet, door: Door, end: Callable[[], None], bodies: Bodies) -> ASGIApp:
    """The whole of it.

    Args:
        fleet: What is served.
        door: Who may ask.
        end: Called when nothing is left to serve.
        bodies: The bodies of requests, with the limits of what clients may hold.
    """
    lists, control = _Lists(fleet, bodies), _Control(fleet, end, bodies)
    relays = {endpoint: Relay(fleet, fleet.figures, endpoint, bodies) for endpoint in ENDPOINTS}
    routes = [
        Route(f"{prefix}/{endpoint}", relays[endpoint], methods=["POST"])
        for prefix, endpoint in product(_PREFIXES, ENDPOINTS)
    ]
    routes += [Route(path, relays["rerank"], methods=["POST"]) for path in _RANKING]
    for prefix in _PREFIXES:
        routes += [
            Route(f"{prefix}/models", lists.openai, methods=["GET"]),
            Route(f"{prefix}/models/{{model:path}}", lists.openai_one, methods=["GET"]),
        ]
    routes += [
        Route("/models", lists.docker, methods=["GET"]),
        Route("/models/{model:path}", lists.docker_one, methods=["GET"]),
        Route("/engines/status", lists.status, methods=["GET"]),
        Route("/engines/ps", lists.running, methods=["GET"]),
        Route("/engines/unload", control.unload, methods=["POST"]),
        Route("/health", lists.health, methods=["GET"]),
        Route("/v1/health", lists.health, methods=["GET"]),
        Route("/metrics", lists.metrics, methods=["GET"]),
        Route("/", lists.page, methods=["GET"]),
        Route(f"{CONTROL}models", control.models, methods=["GET"]),
        Route(f"{CONTROL}stop", control.stop, methods=["POST"]),
    ]
    errors = {HTTPException: _http_error, RefusalError: _refusal, Exception: _bug}
    app = Starlette(routes=routes, exception_handlers=errors)
    app.router.redirect_slashes = False
    return Arrival(Guarded(Limited(app, bodies.limits), door))


@dataclass(frozen=True, slots=True)
class _Lists:
    """What is served, in everybody's words."""

    fleet: Fleet
    bodies: Bodies

    async def openai(self, _request: Request) -> Response:
        models = [_openai(seat) for seat in self.fleet.seats.values()]
        return JSONResponse({"object": "list", "data": models})

    async def openai_one(self, request: Request) -> Response:
        return JSONResponse(_openai(_seat(self.fleet, request.path_params["model"])))

    async def docker(self, _request: Request) -> Response:
        return JSONResponse([_docker(seat) for seat in self.fleet.seats.values()])

    async def docker_one(self, request: Request) -> Response:
        return JSONResponse(_docker(_seat(self.fleet, request.path_params["model"])))

    async def status(self, _request: Request) -> Response:
        # with a capital: Docker's client takes every other word for an error
        return JSONResponse({"llama.cpp": f"Running: {self.fleet.runtime.name}"})

    async def running(self, _request: Request) -> Response:
        loaded = [seat for seat in self.fleet.seats.values() if seat.state == "loaded"]
        return JSONResponse(
            [
                {
                    "backend_name": "llama.cpp",
                    "model_name": seat.model.name,
                    "mode": "embedding" if seat.model.kind == "embedding" else "completion",
                    "last_used": _time(seat.used_at),
                    "in_use": seat.users > 0,
                }
                for seat in loaded
            ]
        )

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def page(self, request: Request) -> Response:
        page = Page.of(request, list(self.fleet.seats.values()))
        if "text/html" in request.headers.get("accept", ""):
            headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
            return HTMLResponse(page.html(), headers=headers)
        return PlainTextResponse(page.text())

    async def metrics(self, _request: Request) -> Response:
        seats = self.fleet.seats.values()
        loaded = [seat for seat in seats if seat.state == "loaded"]
        gauges: dict[str, Mapping[Labels, float]] = {
            "model_loaded": joined((seat.model.name, int(seat in loaded)) for seat in seats),
            "model_memory_bytes": joined((s.model.name, s.model.memory or 0) for s in loaded),
            "requests_in_progress": joined((seat.model.name, seat.users) for seat in seats),
            "request_body_bytes": {(): self.bodies.held},
        }
        return PlainTextResponse(
            self.fleet.figures.text(gauges), media_type="text/plain; version=0.0.4"
        )


@dataclass(frozen=True, slots=True)
class _Control:
    """What changes what is served."""

    fleet: Fleet
    end: Callable[[], None]
    bodies: Bodies

    async def models(self, _request: Request) -> Response:
        """Everything that `modelrunner ps` shows."""
        return JSONResponse([self._described(seat) for seat in self.fleet.seats.values()])

    async def stop(self, request: Request) -> Response:
        """Serves a model no more; with the last one the server ends."""
        model = _seat(self.fleet, str((await _fields(request, self.bodies)).get("model", ""))).model
        await self.fleet.retire(model)
        left = [other.name for other in self.fleet.served]
        if not left:
            self.end()
        return JSONResponse({"stopped": model.name, "left": left})

    async def unload(self, request: Request) -> Response:
        """Takes models out of memory; the next request loads them again."""
        fields = await _fields(request, self.bodies)
        wanted = fields.get("models")
        names = [str(name) for name in wanted] if isinstance(wanted, list) else []
        if len(names) > _MOST_NAMES:
            message = f"the request has more than {_MOST_NAMES} names: use `all`"
            raise RefusalError(400, message, "request_too_large")
        named = [Called.parse(name) for name in names]
        chosen = [
            seat
            for seat in self.fleet.seats.values()
            if fields.get("all") is True or any(seat.model.is_called(each) for each in named)
        ]
        done = [await self.fleet.unload(seat, "asked for") for seat in chosen]
        return JSONResponse({"unloaded_runners": sum(done)})

    def _described(self, seat: Seat) -> dict[str, object]:
        keep_alive, server = self.fleet.keep_alive, seat.server
        loaded = seat.state == "loaded" and server is not None
        counting = loaded and keep_alive is not None and not seat.users
        return {
            "model": seat.model.name,
            "id": str(seat.model.digest),
            "kind": seat.model.kind,
            "runtime": self.fleet.runtime.name,
            "state": seat.state,
            "memory_bytes": seat.model.memory,
            "context": seat.context,
            "requests": seat.users,
            "until": _time(seat.used_at + (keep_alive or 0)) if counting else None,
            "pid": server.pid if loaded and server is not None else None,
            "log": str(self.fleet.log_of(seat.model)),
        }


def _seat(fleet: Fleet, text: str) -> Seat:
    model = find(fleet.served, text)
    if model is None:
        names = listed([each.name for each in fleet.served])
        raise RefusalError(
            404, f"model not found: {text[:200]}; this server has {names}", "not_found"
        )
    return fleet.seats[model.name]


async def _fields(request: Request, bodies: Bodies) -> Mapping[str, object]:
    """A small JSON object; an empty body is an empty one.

    Raises:
        RefusalError: It is none, or not small.
    """
    try:
        async with bodies.read(request.scope, request.receive, _CONTROL_LIMIT) as raw:
            return read_object(raw or b"{}")
    except InvalidBodyError as exc:
        raise refusal_of(exc) from exc
    except GoneError as exc:
        raise RefusalError(499, "the client went away", "gone") from exc


def _openai(seat: Seat) -> dict[str, object]:
    model = seat.model
    return {
        "id": model.name,
        "object": "model",
        "created": model.facts.created or 0,
        "owned_by": "modelrunner",
        "dmr": {
            "context_window": seat.context,
            "architecture": model.facts.architecture,
            "parameters": model.facts.parameters,
            "quantization": model.facts.quantization,
            "size": _size(model),
        },
    }


def _docker(seat: Seat) -> dict[str, object]:
    model = seat.model
    return {
        "id": str(model.digest),
        "tags": [str(name) for name in model.references],
        "created": model.facts.created or 0,
        "config": {
            "format": "gguf",
            "quantization": model.facts.quantization,
            "parameters": model.facts.parameters,
            "architecture": model.facts.architecture,
            "size": _size(model),
            "context_size": seat.context,
        },
    }


def _size(model: Served) -> str | None:
    size = model.facts.size_bytes
    return None if size is None else format_size(size).replace(" ", "")


def _time(seconds: float) -> str:
    return format_moment(datetime.fromtimestamp(seconds, UTC))


async def _refusal(request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusalError):
        raise TypeError("the handler of another error") from error
    body = dialect_of(request.scope).body(error.failure(request.scope))
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(body, error.status, headers, media_type="application/json")


async def _bug(request: Request, error: Exception) -> Response:
    _log.error("%s in request %s", type(error).__name__, request_id_of(request.scope))
    refusal = RefusalError(
        500,
        f"internal error: the log has more, with the request ID {request_id_of(request.scope)}",
        "internal_error",
        [FINAL],
    )
    return await _refusal(request, refusal)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError("the handler of another error") from error
    missing = error.status_code == 404  # noqa: PLR2004
    path = request.url.path[:200]
    message = f"no such address: {path}" if missing else f"{path} does not take {request.method}"
    refusal = RefusalError(error.status_code, message, "not_found" if missing else "method")
    refusal.headers = [(k.encode(), v.encode()) for k, v in (error.headers or {}).items()]
    return await _refusal(request, refusal)
