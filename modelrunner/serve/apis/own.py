"""The server's own addresses: the page for people, health, metrics, control by `modelrunner`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from modelrunner.serve.apis.served import Server, moment
from modelrunner.serve.observability.metrics import Labels, joined
from modelrunner.serve.pool import Slot
from modelrunner.serve.process.records import CONTROL
from modelrunner.serve.web.key_page import wants_html
from modelrunner.serve.web.markup import response
from modelrunner.serve.web.page import Page
from modelrunner.version import __version__


def routes(server: Server) -> list[Route]:
    """`/`, `/health`, `/metrics`, and what only holders of the control key may ask."""
    api = _Api(server)
    return [
        Route("/health", api.health, methods=["GET"]),
        Route("/v1/health", api.health, methods=["GET"]),
        Route("/metrics", api.metrics, methods=["GET"]),
        Route("/", api.page, methods=["GET"]),
        Route(f"{CONTROL}models", api.models, methods=["GET"]),
        Route(f"{CONTROL}stop", api.stop, methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True)
class _Api:
    server: Server

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def page(self, request: Request) -> Response:
        paths = {route.path for route in request.app.routes}
        page = Page.of(request, self.server.pool, paths)
        return (
            response(page.html()) if wants_html(request.scope) else PlainTextResponse(page.text())
        )

    async def metrics(self, _request: Request) -> Response:
        slots = self.server.pool.slots.values()
        loaded = [slot for slot in slots if slot.state == "loaded"]
        gauges: dict[str, Mapping[Labels, float]] = {
            "model_loaded": joined((slot.model.name, int(slot in loaded)) for slot in slots),
            "model_memory_bytes": joined((s.model.name, s.model.memory or 0) for s in loaded),
            "requests_in_progress": joined((slot.model.name, slot.users) for slot in slots),
            "request_body_bytes": {(): self.server.bodies.held},
            "build_info": {(("version", __version__),): 1},
        }
        return PlainTextResponse(
            self.server.pool.metrics.text(gauges),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )

    async def models(self, _request: Request) -> Response:
        """Everything that `modelrunner ps` shows."""
        return JSONResponse([self._described(slot) for slot in self.server.pool.slots.values()])

    async def stop(self, request: Request) -> Response:
        """Serves a model no more; with the last one the server ends."""
        model = self.server.slot(str((await self.server.fields(request)).get("model", ""))).model
        await self.server.pool.retire(model)
        left = [other.name for other in self.server.pool.served]
        if not left:
            self.server.end()
        return JSONResponse({"stopped": model.name, "left": left})

    def _described(self, slot: Slot) -> dict[str, object]:
        kept, server = self.server.pool.kept_s(slot), slot.server
        loaded = slot.state == "loaded" and server is not None
        counting = loaded and not math.isinf(kept) and not slot.users
        return {
            "model": slot.model.name,
            "id": str(slot.model.digest),
            "kind": slot.model.kind,
            "runtime": self.server.pool.runtime.name,
            "state": slot.state,
            "memory_bytes": slot.model.memory,
            "context": slot.context,
            "requests": slot.users,
            "until": moment(slot.used_at + kept) if counting else None,
            "pid": server.pid if loaded and server is not None else None,
            "log": str(self.server.pool.log_of(slot.model)),
            "placement": slot.placement.to_dict() if loaded and slot.placement else None,
        }
