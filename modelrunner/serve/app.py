"""The application: every API under one roof, and errors in the words of the one that was asked.

An API is a module of `apis` with its `routes`; what is served is the same for all.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modelrunner.errors import ModelRunnerError
from modelrunner.serve.apis import llama_cpp, openai, own, ui
from modelrunner.serve.apis.anthropic import api as anthropic
from modelrunner.serve.apis.docker import routes as docker
from modelrunner.serve.apis.ollama import routes as ollama
from modelrunner.serve.apis.responses import api as responses
from modelrunner.serve.apis.served import Server
from modelrunner.serve.bodies.request import Bodies
from modelrunner.serve.changes import StoreChanges
from modelrunner.serve.client.access import OPEN, AccessMiddleware, AccessPolicy
from modelrunner.serve.client.arrival import Arrival
from modelrunner.serve.client.dialects import dialect_of
from modelrunner.serve.client.errors import FINAL, RefusalError, refusal_for, request_id_of
from modelrunner.serve.client.limits import Limited
from modelrunner.serve.pool import ModelPool
from modelrunner.serve.web.chat_files import ChatFiles, is_page
from modelrunner.serve.web.key_page import KeyPage

_APIS = (openai, responses, anthropic, llama_cpp, docker, ollama, own)
_log = logging.getLogger(__name__)


def application(
    pool: ModelPool,
    policy: AccessPolicy,
    end: Callable[[], None],
    bodies: Bodies,
    store: StoreChanges | None = None,
) -> ASGIApp:
    """The whole of it.

    Args:
        pool: What is served.
        policy: Who may ask.
        end: Called when nothing is left to serve.
        bodies: The bodies of requests, with the limits of what clients may hold.
        store: The local store, where requests may read and change it.
    """
    files = ChatFiles()
    policy = replace(policy, files=files)
    server = Server(pool, policy, bodies, end, store)
    routes = [route for api in _APIS for route in api.routes(server)]
    routes += ui.routes(server, files)
    errors = {
        HTTPException: _http_error,
        RefusalError: _refusal,
        ModelRunnerError: _failure,
        Exception: _bug,
    }
    found = Starlette(routes=routes, exception_handlers=errors)
    found.router.redirect_slashes = False
    app: ASGIApp = found
    if store is not None:
        app = _Current(app, store)
    return Arrival(KeyPage(AccessMiddleware(Limited(app, bodies.limits), policy), is_page))


@dataclass(frozen=True, slots=True)
class _Current:
    """The application over what the store has now."""

    app: ASGIApp
    store: StoreChanges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in OPEN:
            await self.store.refresh()
        await self.app(scope, receive, send)


async def _failure(request: Request, error: Exception) -> Response:
    if not isinstance(error, ModelRunnerError):
        raise TypeError("the handler of another error") from error
    return await _refusal(request, refusal_for(error))


async def _refusal(request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusalError):
        raise TypeError("the handler of another error") from error
    dialect = dialect_of(request.scope)
    body = dialect.body(error.failure(request.scope))
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(body, error.status, headers, media_type=dialect.media_type)


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
