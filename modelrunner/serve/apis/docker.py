"""Docker Model Runner's API beside OpenAI's: models, and what is in memory."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelrunner.serve.apis.served import Server, capabilities_of, moment, size_of
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.models import Called
from modelrunner.serve.pool import Slot

_MOST_NAMES = 256


def routes(server: Server) -> list[Route]:
    """`/models` and `/engines`."""
    api = _Api(server)
    return [
        Route("/models", api.models, methods=["GET"]),
        Route("/models/{model:path}", api.model, methods=["GET"]),
        Route("/engines/status", api.status, methods=["GET"]),
        Route("/engines/ps", api.running, methods=["GET"]),
        Route("/engines/unload", api.unload, methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True)
class _Api:
    server: Server

    async def models(self, _request: Request) -> Response:
        return JSONResponse([_described(slot) for slot in self.server.pool.slots.values()])

    async def model(self, request: Request) -> Response:
        return JSONResponse(_described(self.server.slot(request.path_params["model"])))

    async def status(self, _request: Request) -> Response:
        # with a capital: Docker's client takes every other word for an error
        return JSONResponse({"llama.cpp": f"Running: {self.server.pool.runtime.name}"})

    async def running(self, _request: Request) -> Response:
        loaded = [slot for slot in self.server.pool.slots.values() if slot.state == "loaded"]
        return JSONResponse(
            [
                {
                    "backend_name": "llama.cpp",
                    "model_name": slot.model.name,
                    "mode": "embedding" if slot.model.kind == "embedding" else "completion",
                    "last_used": moment(slot.used_at),
                    "in_use": slot.users > 0,
                }
                for slot in loaded
            ]
        )

    async def unload(self, request: Request) -> Response:
        """Takes models out of memory; the next request loads them again."""
        fields = await self.server.fields(request)
        wanted = fields.get("models")
        names = [str(name) for name in wanted] if isinstance(wanted, list) else []
        if len(names) > _MOST_NAMES:
            message = f"the request has more than {_MOST_NAMES} names: use `all`"
            raise RefusalError(400, message, "request_too_large")
        named = [Called.parse(name) for name in names]
        chosen = [
            slot
            for slot in self.server.pool.slots.values()
            if fields.get("all") is True or any(slot.model.is_called(each) for each in named)
        ]
        done = [await self.server.pool.unload(slot, "asked for") for slot in chosen]
        return JSONResponse({"unloaded_runners": sum(done)})


def _described(slot: Slot) -> dict[str, object]:
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
            "size": size_of(model),
            "context_size": slot.context,
            "capabilities": capabilities_of(model),
        },
    }
