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

from modelrunner.serve.client.access import AccessMiddleware, AccessPolicy
from modelrunner.serve.client.arrival import Arrival
from modelrunner.serve.client.dialects import dialect_of
from modelrunner.serve.client.errors import FINAL, RefusalError, request_id_of
from modelrunner.serve.client.fields import InvalidBodyError, read_object
from modelrunner.serve.client.limits import Limited
from modelrunner.serve.client.request import Bodies, GoneError, refusal_of
from modelrunner.serve.metrics import Labels, joined
from modelrunner.serve.models import Called, Served, find
from modelrunner.serve.page import Page
from modelrunner.serve.pool import ModelPool, Slot
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


def application(
    pool: ModelPool, policy: AccessPolicy, end: Callable[[], None], bodies: Bodies
) -> ASGIApp:
    """The whole of it.

    Args:
        pool: What is served.
        policy: Who may ask.
        end: Called when nothing is left to serve.
        bodies: The bodies of requests, with the limits of what clients may hold.
    """
    lists, control = _Lists(pool, bodies), _Control(pool, end, bodies)
    relays = {endpoint: Relay(pool, pool.metrics, endpoint, bodies) for endpoint in ENDPOINTS}
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
    return Arrival(AccessMiddleware(Limited(app, bodies.limits), policy))


@dataclass(frozen=True, slots=True)
class _Lists:
    """What is served, in everybody's words."""

    pool: ModelPool
    bodies: Bodies

    async def openai(self, _request: Request) -> Response:
        models = [_openai(slot) for slot in self.pool.slots.values()]
        return JSONResponse({"object": "list", "data": models})

    async def openai_one(self, request: Request) -> Response:
        return JSONResponse(_openai(_slot(self.pool, request.path_params["model"])))

    async def docker(self, _request: Request) -> Response:
        return JSONResponse([_docker(slot) for slot in self.pool.slots.values()])

    async def docker_one(self, request: Request) -> Response:
        return JSONResponse(_docker(_slot(self.pool, request.path_params["model"])))

    async def status(self, _request: Request) -> Response:
        # with a capital: Docker's client takes every other word for an error
        return JSONResponse({"llama.cpp": f"Running: {self.pool.runtime.name}"})

    async def running(self, _request: Request) -> Response:
        loaded = [slot for slot in self.pool.slots.values() if slot.state == "loaded"]
        return JSONResponse(
            [
                {
                    "backend_name": "llama.cpp",
                    "model_name": slot.model.name,
                    "mode": "embedding" if slot.model.kind == "embedding" else "completion",
                    "last_used": _time(slot.used_at),
                    "in_use": slot.users > 0,
                }
                for slot in loaded
            ]
        )

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def page(self, request: Request) -> Response:
        page = Page.of(request, list(self.pool.slots.values()))
        if "text/html" in request.headers.get("accept", ""):
            headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
            return HTMLResponse(page.html(), headers=headers)
        return PlainTextResponse(page.text())

    async def metrics(self, _request: Request) -> Response:
        slots = self.pool.slots.values()
        loaded = [slot for slot in slots if slot.state == "loaded"]
        gauges: dict[str, Mapping[Labels, float]] = {
            "model_loaded": joined((slot.model.name, int(slot in loaded)) for slot in slots),
            "model_memory_bytes": joined((s.model.name, s.model.memory or 0) for s in loaded),
            "requests_in_progress": joined((slot.model.name, slot.users) for slot in slots),
            "request_body_bytes": {(): self.bodies.held},
        }
        return PlainTextResponse(
            self.pool.metrics.text(gauges), media_type="text/plain; version=0.0.4"
        )


@dataclass(frozen=True, slots=True)
class _Control:
    """What changes what is served."""

    pool: ModelPool
    end: Callable[[], None]
    bodies: Bodies

    async def models(self, _request: Request) -> Response:
        """Everything that `modelrunner ps` shows."""
        return JSONResponse([self._described(slot) for slot in self.pool.slots.values()])

    async def stop(self, request: Request) -> Response:
        """Serves a model no more; with the last one the server ends."""
        model = _slot(self.pool, str((await _fields(request, self.bodies)).get("model", ""))).model
        await self.pool.retire(model)
        left = [other.name for other in self.pool.served]
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
            slot
            for slot in self.pool.slots.values()
            if fields.get("all") is True or any(slot.model.is_called(each) for each in named)
        ]
        done = [await self.pool.unload(slot, "asked for") for slot in chosen]
        return JSONResponse({"unloaded_runners": sum(done)})

    def _described(self, slot: Slot) -> dict[str, object]:
        keep_alive, server = self.pool.keep_alive, slot.server
        loaded = slot.state == "loaded" and server is not None
        counting = loaded and keep_alive is not None and not slot.users
        return {
            "model": slot.model.name,
            "id": str(slot.model.digest),
            "kind": slot.model.kind,
            "runtime": self.pool.runtime.name,
            "state": slot.state,
            "memory_bytes": slot.model.memory,
            "context": slot.context,
            "requests": slot.users,
            "until": _time(slot.used_at + (keep_alive or 0)) if counting else None,
            "pid": server.pid if loaded and server is not None else None,
            "log": str(self.pool.log_of(slot.model)),
            "placement": slot.placement.to_dict() if loaded and slot.placement else None,
        }


def _slot(pool: ModelPool, text: str) -> Slot:
    model = find(pool.served, text)
    if model is None:
        names = listed([each.name for each in pool.served])
        raise RefusalError(
            404, f"model not found: {text[:200]}; this server has {names}", "not_found"
        )
    return pool.slots[model.name]


async def _fields(request: Request, bodies: Bodies) -> Mapping[str, object]:
    """A small JSON object; an empty body is an empty one.

    Raises:
        RefusalError: It is invalid, or not small.
    """
    try:
        async with bodies.read(request.scope, request.receive, _CONTROL_LIMIT) as raw:
            return read_object(raw or b"{}")
    except InvalidBodyError as exc:
        raise refusal_of(exc) from exc
    except GoneError as exc:
        raise RefusalError(499, "the client closed the connection", "gone") from exc


def _openai(slot: Slot) -> dict[str, object]:
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
            "size": _size(model),
            "capabilities": _capabilities(model),
        },
    }


def _docker(slot: Slot) -> dict[str, object]:
    model = slot.model
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
            "context_size": slot.context,
            "capabilities": _capabilities(model),
        },
    }


def _capabilities(model: Served) -> list[str] | None:
    known = model.facts.capabilities
    if known is None:
        return None
    return [*(["chat"] if known.chat else []), *known.words]


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
    message = f"not found: {path}" if missing else f"method not allowed: {request.method} {path}"
    refusal = RefusalError(error.status_code, message, "not_found" if missing else "method")
    refusal.headers = [(k.encode(), v.encode()) for k, v in (error.headers or {}).items()]
    return await _refusal(request, refusal)
