"""The models that are served, as `docker model list` and `inspect` read them."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelrunner.errors import IntegrityError
from modelrunner.oci.reference import Reference
from modelrunner.serve.apis.served import Server, capabilities_of, size_of
from modelrunner.serve.library import RemoteModel
from modelrunner.serve.pool import Slot


@dataclass(frozen=True, slots=True)
class Models:
    """`/models`."""

    server: Server

    async def all(self, _request: Request) -> Response:
        """List them."""
        return JSONResponse([_described(slot) for slot in self.server.pool.slots.values()])

    async def one(self, request: Request) -> Response:
        """Describe one: of those that are served, or with `remote` one in its registry."""
        text = request.path_params["model"]
        if is_set(request, "remote"):
            # it asks a registry, with the logins of this machine
            return JSONResponse(_far(await self.server.changing(request).remote(text)))
        slot = self._by_last_name(text) or self.server.slot(text)
        return JSONResponse(_described(slot, await self._header(slot)))

    def _by_last_name(self, text: str) -> Slot | None:
        """The model that Docker's API finds by a name without its namespace and tag."""
        if self.server.pool.find(text) is not None:
            return None
        slots = self.server.pool.slots.values()
        return next(
            (
                slot
                for slot in slots
                if text in {_last_name(name) for name in slot.model.references}
            ),
            None,
        )

    async def _header(self, slot: Slot) -> Mapping[str, str]:
        """The key-values of a model's header, as text, without lists."""
        store = self.server.store
        if store is None or not slot.model.stored:
            return {}
        try:
            found = await store.describe(slot.model.digest)
        except IntegrityError:
            # a request for the model says what is wrong
            return {}
        return {key: _text(value) for key, value in found.values.items() if value is not None}


def is_set(request: Request, name: str) -> bool:
    """Whether a parameter of the address is true; without a value it is."""
    return request.query_params.get(name, "false").lower() in {"", "1", "t", "true"}


def _last_name(name: Reference) -> str:
    return name.repository.rpartition("/")[2]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:f}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _described(slot: Slot, header: Mapping[str, str] | None = None) -> dict[str, object]:
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
            "size": size_of(model.facts),
            **({"gguf": header} if header else {}),
            "context_size": slot.context,
            "capabilities": capabilities_of(model),
        },
    }


def _far(model: RemoteModel) -> dict[str, object]:
    """A model in a registry: its names there are the business of the registry."""
    facts = model.facts
    return {
        "id": str(model.digest),
        "created": facts.created or 0,
        "config": {
            "format": model.format,
            "quantization": facts.quantization,
            "parameters": facts.parameters,
            "architecture": facts.architecture,
            "size": size_of(facts),
            **({"gguf": dict(model.gguf)} if model.gguf else {}),
            "context_size": model.context,
        },
    }
