"""What runs, and the room that it takes, as `docker model status`, `ps` and `df` read it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelrunner.serve.apis.served import Server, moment
from modelrunner.serve.client.errors import FINAL, RefusalError
from modelrunner.serve.models import Called, Kind
from modelrunner.serve.pool import Slot
from modelrunner.version import __version__

BACKEND = "llama.cpp"
MODES: Mapping[Kind, str] = {
    "chat": "completion",
    "embedding": "embedding",
    "ranking": "reranking",
}
"""The words of Docker's API for what a model is asked for."""

_MOST_NAMES = 256


@dataclass(frozen=True, slots=True)
class Engines:
    """`/engines`."""

    server: Server

    async def status(self, _request: Request) -> Response:
        """Say that it runs."""
        # with a capital: Docker's client takes every other word for an error
        return JSONResponse({BACKEND: f"Running: {self.server.pool.runtime.name}"})

    async def version(self, _request: Request) -> Response:
        """Say which version it is."""
        return JSONResponse({"version": f"modelrunner {__version__}"})

    async def running(self, _request: Request) -> Response:
        """List what is in memory, or on its way there."""
        slots = self.server.pool.slots.values()
        return JSONResponse([self._running(slot) for slot in slots if slot.state != "idle"])

    async def disk_usage(self, _request: Request) -> Response:
        """Say how much room models and runtimes take on the disk."""
        types = (await self.server.local_store().disk_usage())["types"]
        sizes = {each["type"]: each["size_bytes"] for each in types}
        return JSONResponse(
            {
                "models_disk_usage": sizes["Models"],
                "default_backend_disk_usage": sizes.get("Runtimes", 0),
            }
        )

    async def unload(self, request: Request) -> Response:
        """Take models out of memory; the next request loads them again."""
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

    async def install(self, _request: Request) -> Response:
        """Refuse to install: programs are installed by the one who runs them."""
        raise RefusalError(
            501,
            "cannot install or remove a runtime over HTTP: use `modelrunner runtimes`",
            "unsupported",
            [FINAL],
        )

    def _running(self, slot: Slot) -> dict[str, object]:
        kept = self.server.pool.kept_s(slot)
        return {
            "backend_name": BACKEND,
            "model_name": slot.model.name,
            "mode": MODES[slot.model.kind],
            "last_used": moment(slot.used_at),
            "in_use": slot.users > 0,
            "loading": slot.state == "loading",
            # as Go writes durations
            "keep_alive": "-1" if math.isinf(kept) else f"{kept:g}s",
        }
