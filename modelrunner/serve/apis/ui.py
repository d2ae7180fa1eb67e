"""The runtime's own page for chats, and what it asks: one page for each model.

The page thinks that it speaks with the server of one model. What it asks is below its own address,
so it is answered for that model alone, and needs a key as everything does.
"""

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from modelrunner.errors import ModelRunnerError
from modelrunner.serve.apis.served import Server
from modelrunner.serve.bodies.request import Bodies
from modelrunner.serve.client.errors import FINAL, RefusalError
from modelrunner.serve.pool import Slot
from modelrunner.serve.relay import Question, Relay
from modelrunner.serve.upstream import BrokenOffError
from modelrunner.serve.web.chat_files import (
    INDEX,
    PREFIX,
    ChatFile,
    ChatFiles,
    address,
    policy,
    split,
)
from modelrunner.serve.web.key_page import wants_html
from modelrunner.serve.web.markup import error_page, response
from modelrunner.version import __version__

_CHAT = "chat/completions"
# one that a browser may still have from another program at this address ends itself
_WORKER = "self.addEventListener('activate', () => self.registration.unregister());\n"
_HEADERS = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def routes(server: Server, files: ChatFiles) -> list[Route]:
    """Everything below `/ui`."""
    api = _Api(server, files)
    pool, bodies = server.pool, server.bodies
    relay = Relay(pool, _CHAT, bodies, _OfThePage(bodies))
    base = f"{PREFIX}{{model:path}}"
    return [
        Route(PREFIX.removesuffix("/"), api.first, methods=["GET"]),
        Route(f"{base}/props", api.props, methods=["GET"]),
        Route(f"{base}/slots", api.nothing, methods=["GET"]),
        Route(f"{base}/tools", api.nothing, methods=["GET"]),
        Route(f"{base}/tools", api.no_tool, methods=["POST"]),
        Route(f"{base}/sw.js", api.worker, methods=["GET"]),
        Route(f"{base}/v1/models", api.models, methods=["GET"]),
        Route(f"{base}/v1/{_CHAT}", relay, methods=["POST"]),
        Route(f"{base}/v1/{_CHAT}/control", api.control, methods=["POST"]),
        Route(f"{base}/v1/streams/lookup", api.nothing, methods=["POST"]),
        Route(f"{base}/v1/stream", api.no_stream, methods=["DELETE"]),
        Route(base, api.file, methods=["GET"]),
    ]


def has_page(slot: Slot) -> bool:
    """Whether a model can be chatted with on a page."""
    return slot.model.spec.ui


@dataclass(frozen=True, slots=True)
class _OfThePage:
    """Has the model of a page answer it, whatever the request calls it."""

    bodies: Bodies

    async def __call__(self, scope: Scope, raw: bytearray) -> Question:
        fields = await self.bodies.understand(raw)
        return Question(_CHAT, raw, replace(fields, model=scope["path_params"]["model"]))


@dataclass(frozen=True, slots=True)
class _Api:
    server: Server
    files: ChatFiles

    def _slot(self, model: str) -> Slot:
        slot = self.server.slot(model)
        if not has_page(slot):
            raise RefusalError(404, f"{slot.model.name} has no page to chat", "not_found")
        return slot

    async def first(self, _request: Request) -> Response:
        slots = self.server.pool.slots.values()
        found = next((slot.model.name for slot in slots if has_page(slot)), None)
        if found is None:
            message = "no page to chat: start the server with `--ui`"
            raise RefusalError(404, message, "not_found")
        return RedirectResponse(address(found))

    async def file(self, request: Request) -> Response:
        """A file of the page; the page itself loads the model."""
        found = split(request.url.path)
        if found is None:
            # a model: its page
            return RedirectResponse(address(self._slot(request.path_params["model"]).model.name))
        model, name = found
        slot = self._slot(model)
        file = self.files.files.get(name)
        if file is None and (name == INDEX or slot.state == "loaded"):
            try:
                file = await self._asked(slot, name)
            except RefusalError as exc:
                if not wants_html(request.scope):
                    raise
                return response(error_page(exc.message), exc.status)
        if file is None:
            raise RefusalError(404, f"not found: {request.url.path[:200]}", "not_found")
        return _sent(request, name, file)

    async def _asked(self, slot: Slot, name: str) -> ChatFile | None:
        try:
            async with self.server.pool.borrowed(slot.model) as server:
                return await self.files.find(name, server)
        except ModelRunnerError as exc:
            message = f"{exc.message}; {exc.hint}" if exc.hint else exc.message
            raise RefusalError(500, message, exc.code, [FINAL]) from exc
        except BrokenOffError as exc:
            message = f"the runtime of {slot.model.name} did not answer"
            raise RefusalError(502, message, "runtime_failed") from exc

    async def props(self, request: Request) -> Response:
        """What the page shows of the model, and what its settings begin with."""
        slot = self._slot(request.path_params["model"])
        known = slot.model.facts.capabilities
        words = set(known.words) if known is not None else set()
        return JSONResponse(
            {
                "default_generation_settings": {"params": {}, "n_ctx": slot.context},
                "total_slots": slot.model.spec.parallel,
                "model_alias": slot.model.name,
                "model_path": slot.model.name,
                "modalities": {
                    "vision": slot.model.spec.mmproj is not None and "vision" in words,
                    "audio": slot.model.spec.mmproj is not None and "audio" in words,
                },
                "chat_template": "",
                "build_info": f"modelrunner {__version__}",
                "ui": True,
                "ui_settings": {},
                "cors_proxy_enabled": False,
            }
        )

    async def models(self, request: Request) -> Response:
        slot = self._slot(request.path_params["model"])
        described = {
            "id": slot.model.name,
            "object": "model",
            "created": slot.model.facts.created or 0,
            "owned_by": "modelrunner",
            "meta": {"n_ctx": slot.context, "size": slot.model.facts.size_bytes or 0},
        }
        listed = {"name": slot.model.name, "model": slot.model.name, "capabilities": ["completion"]}
        return JSONResponse({"object": "list", "data": [described], "models": [listed]})

    async def nothing(self, _request: Request) -> Response:
        return JSONResponse([])

    async def no_tool(self, _request: Request) -> Response:
        return JSONResponse({"error": "this server runs no tools"})

    async def control(self, _request: Request) -> Response:
        return JSONResponse({"success": False})

    async def no_stream(self, _request: Request) -> Response:
        return Response(status_code=204)

    async def worker(self, _request: Request) -> Response:
        return Response(_WORKER, media_type="text/javascript", headers=_HEADERS)


def _sent(request: Request, name: str, file: ChatFile) -> Response:
    headers = {**_HEADERS, "content-type": file.kind, "vary": "Accept-Encoding"}
    if name == INDEX:
        headers["content-security-policy"] = policy(file.content())
        headers["cache-control"] = "no-store"
    else:
        immutable = name.startswith("_app/immutable/")
        headers["cache-control"] = "private, max-age=86400, immutable" if immutable else "no-cache"
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.body, headers={**headers, "content-encoding": "gzip"})
    return Response(file.content(), headers=headers)
