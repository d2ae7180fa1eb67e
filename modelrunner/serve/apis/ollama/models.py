"""Models as Ollama's clients see them: lists, everything about one, and what is in memory."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelrunner.runtime.capabilities.facts import Capabilities
from modelrunner.runtime.placement import HOST
from modelrunner.serve.apis.ollama import names
from modelrunner.serve.apis.ollama.times import FOREVER, moment
from modelrunner.serve.apis.served import Server
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.library import Description
from modelrunner.serve.models import Served
from modelrunner.serve.pool import Slot
from modelrunner.version import __version__

API_VERSION = "0.13.5"
"""The release of Ollama whose API this is: clients ask for a minimum."""

_QUANTIZATION = "MOSTLY_"
_INFILL = ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id")


@dataclass(frozen=True, slots=True)
class Models:
    """The addresses that read."""

    server: Server

    async def version(self, _request: Request) -> Response:
        """Ollama's version, by which clients judge what they may ask for, and ours."""
        return JSONResponse({"version": API_VERSION, "modelrunner": __version__})

    async def tags(self, _request: Request) -> Response:
        """All models, each by all its names, the newest first."""
        slots = sorted(
            self.server.pool.slots.values(), key=lambda slot: _modified(slot.model), reverse=True
        )
        listed = [
            {
                "name": name,
                "model": name,
                "modified_at": moment(_modified(slot.model)),
                "size": slot.model.facts.size_bytes or 0,
                "digest": slot.model.digest.hex,
                "details": details(slot.model),
                "capabilities": capabilities(slot.model),
            }
            for slot in slots
            for name in names.names_of(slot.model)
        ]
        return JSONResponse({"models": listed})

    async def running(self, _request: Request) -> Response:
        """The models in memory."""
        slots = [slot for slot in self.server.pool.slots.values() if slot.state == "loaded"]
        return JSONResponse({"models": [self._running(slot) for slot in slots]})

    async def show(self, request: Request) -> Response:
        """Everything about one model."""
        fields = await self.server.fields(request)
        text = named(fields)
        model = names.found(self.server.pool, text)
        slot = self.server.pool.slots[model.name]
        about = await self._description(model)
        value: dict[str, object] = {
            "modelfile": _modelfile(text, about),
            "parameters": _parameters(slot, about),
            "template": about.template or "",
            "system": model.system or about.system or "",
            "license": "\n\n".join(about.licenses),
            "details": details(model),
            "model_info": _info(slot, about, verbose=fields.get("verbose") is True),
            "capabilities": capabilities(model, about),
            "modified_at": moment(_modified(model)),
        }
        if about.projector is not None:
            value["projector_info"] = dict(about.projector)
        thinking = None if model.facts.capabilities is None else model.facts.capabilities.thinking
        if thinking is not None:
            off: list[object] = [False] if thinking.can_stop else []
            value["thinking"] = {
                "values": [*off, *(thinking.levels or [True])],
                "default": thinking.default,
            }
        return JSONResponse({key: part for key, part in value.items() if part != ""})

    async def _description(self, model: Served) -> Description:
        """What is known of a model; of a file that is served where it lies, little is."""
        store = self.server.store
        if store is None or not model.stored:
            architecture = model.facts.architecture
            known = {} if architecture is None else {"general.architecture": architecture}
            return Description(values=known, parameters=0)
        return await store.describe(model.digest)

    def _running(self, slot: Slot) -> dict[str, object]:
        model, pool = slot.model, self.server.pool
        placement = slot.placement
        size = model.memory or model.facts.size_bytes or 0
        on_gpus = 0
        if placement is not None and placement.held:
            size = sum(each.total for each in placement.held) or size
            on_gpus = sum(each.total for each in placement.held if each.name != HOST)
        kept = pool.kept_s(slot)
        since = time.time() if slot.users else slot.used_at
        name = next(names.names_of(model))
        return {
            "name": name,
            "model": name,
            "size": size,
            "digest": model.digest.hex,
            "details": details(model),
            "expires_at": FOREVER if math.isinf(kept) else moment(since + kept),
            "size_vram": on_gpus,
            "context_length": slot.context,
        }


def named(fields: Mapping[str, object]) -> str:
    """The model that a small request names.

    Raises:
        RefusalError: The field is missing.
    """
    text = fields.get("model") or fields.get("name")
    if not isinstance(text, str) or not text:
        raise RefusalError(400, "the field `model` is missing", "no_model")
    return text


def details(model: Served) -> dict[str, object]:
    """What lists say of a model."""
    family = model.facts.architecture or ""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": model.facts.parameters or "",
        "quantization_level": (model.facts.quantization or "").removeprefix(_QUANTIZATION),
    }


def capabilities(model: Served, about: Description | None = None) -> list[str]:
    """What a model can do, in Ollama's words."""
    if model.kind != "chat":
        return ["embedding"] if model.kind == "embedding" else []
    known = model.facts.capabilities or Capabilities()
    infill = about is not None and any(key in about.values for key in _INFILL)
    have = {
        "completion": True,
        "tools": known.tools,
        "insert": infill,
        "vision": known.images,
        "audio": known.audio,
        "thinking": known.thinking is not None,
    }
    return [word for word, there in have.items() if there]


def _modified(model: Served) -> float:
    return model.facts.stored_at or model.facts.created or 0.0


def _info(slot: Slot, about: Description, *, verbose: bool) -> dict[str, object]:
    """The header's key-values, with the context that requests really have."""
    family = about.values.get("general.architecture") or slot.model.facts.architecture or ""
    info: dict[str, object] = {
        key: value for key, value in about.values.items() if verbose or value is not None
    }
    info["general.parameter_count"] = about.parameters
    # what clients size their prompts by
    info[f"{family}.context_length"] = slot.context
    return dict(sorted(info.items()))


def _parameters(slot: Slot, about: Description) -> str:
    values = {"num_ctx": slot.context, **about.settings}
    values.pop("context", None)
    lines = [f"{key.replace('-', '_'):30} {value}" for key, value in sorted(values.items())]
    return "\n".join(lines)


def _modelfile(text: str, about: Description) -> str:
    lines = [f"FROM {text}"]
    if about.system is not None:
        lines.append(f'SYSTEM """{about.system}"""')
    lines += [
        f"PARAMETER {key.replace('-', '_')} {value}"
        for key, value in about.settings.items()
        if key != "context"
    ]
    return "\n".join([*lines, ""])
