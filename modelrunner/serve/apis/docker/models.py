"""The models that are served, as `docker model list` and `inspect` read them."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelrunner.serve.apis.served import Server, capabilities_of, size_of
from modelrunner.serve.client.errors import FINAL, RefusalError
from modelrunner.serve.pool import Slot


@dataclass(frozen=True, slots=True)
class Models:
    """`/models`."""

    server: Server

    async def all(self, _request: Request) -> Response:
        """List them."""
        return JSONResponse([_described(slot) for slot in self.server.pool.slots.values()])

    async def one(self, request: Request) -> Response:
        """Describe one."""
        text = request.path_params["model"]
        if is_set(request, "remote"):
            raise RefusalError(
                501,
                "cannot look at a registry over HTTP: use"
                f" `modelrunner inspect --remote {text[:200]}`",
                "unsupported",
                [FINAL],
            )
        return JSONResponse(_described(self.server.slot(text)))


def is_set(request: Request, name: str) -> bool:
    """Whether a parameter of the address is true; without a value it is."""
    return request.query_params.get(name, "false").lower() in {"", "1", "t", "true"}


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
