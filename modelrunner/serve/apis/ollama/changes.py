"""What Ollama's clients change: models are pulled, copied, created and deleted."""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelrunner.errors import ModelNotFoundError
from modelrunner.serve.apis.ollama import names
from modelrunner.serve.apis.ollama.models import named
from modelrunner.serve.apis.pulls import layer_of, streamed
from modelrunner.serve.apis.served import Server
from modelrunner.serve.changes import StoreChanges
from modelrunner.serve.client.errors import FINAL, RefusalError
from modelrunner.serve.library import Recipe
from modelrunner.serve.relay import while_there

LINES = "application/x-ndjson"
_NUMBERS = {
    "temperature": "temperature",
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
    "repeat_last_n": "repeat-last-n",
    "repeat_penalty": "repeat-penalty",
    "presence_penalty": "presence-penalty",
    "frequency_penalty": "frequency-penalty",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat-tau",
    "mirostat_eta": "mirostat-eta",
    "seed": "seed",
    "num_ctx": "context",
}
"""Ollama's parameters that a model can bring along, by the names that they have here."""

_GO_TEMPLATE = re.compile(r"\{\{-?\s*(?:\.|if\s|range\s|end\b|else\b|with\s|block\s|\$)")


@dataclass(frozen=True, slots=True)
class Changes:
    """The addresses that change the store, or download something."""

    server: Server

    async def pull(self, request: Request) -> Response:
        """Pull a model; a line for each step unless `stream` is false."""
        store = self.server.changing(request)
        fields = await self.server.fields(request)
        steps = _steps(store, named(fields))
        if fields.get("stream") is False:
            await while_there(request.receive, _completed(steps))
            return JSONResponse({"status": "success"})
        lines = (_line(step) async for step in steps)
        return await streamed(request, lines, _failure, media_type=LINES)

    async def copy(self, request: Request) -> Response:
        """Give a model one more name."""
        store = self.server.changing(request)
        fields = await self.server.fields(request)
        source, target = _text(fields, "source"), _text(fields, "destination")
        with _not_found_as(source):
            await store.tag(source, target)
        return Response()

    async def delete(self, request: Request) -> Response:
        """Remove a name, and with the last one the model."""
        store = self.server.changing(request)
        text = named(await self.server.fields(request))
        with _not_found_as(text):
            await store.remove(text)
        return Response()

    async def create(self, request: Request) -> Response:
        """Make a model of one that is stored, with other settings."""
        store = self.server.changing(request)
        fields = await self.server.fields(request, _RECIPE_LIMIT)
        source, target, recipe = _text(fields, "from"), named(fields), _recipe(fields)
        with _not_found_as(source):
            made = await store.create(source, target, recipe)
        steps = [
            {"status": f"using existing layer {made.digest}"},
            {"status": "writing manifest"},
            {"status": "success"},
        ]
        if fields.get("stream") is False:
            return JSONResponse(steps[-1])
        return Response(b"".join(map(_line, steps)), media_type=LINES)

    async def push(self, request: Request) -> NoReturn:
        """Refuse to push: the user's logins are not for requests."""
        text = named(await self.server.fields(request))
        raise _unsupported(f"cannot push {text[:200]} over HTTP: use `modelrunner push`")

    async def account(self, _: Request) -> NoReturn:
        """Refuse to sign in or out: there are no accounts."""
        raise _unsupported(
            "this server has no account at ollama.com: for other registries, use"
            " `modelrunner login` and `modelrunner push`"
        )

    async def blob(self, request: Request) -> Response:
        """Refuse files: no blob of a client is there, and none is taken."""
        if request.method == "HEAD":
            return Response(status_code=404)
        raise _unsupported(
            "cannot create a model from files over HTTP: use `modelrunner package` or"
            " `modelrunner import`"
        )


_RECIPE_LIMIT = 1024 * 1024


async def _completed(steps: AsyncIterator[Mapping[str, Any]]) -> None:
    async for _step in steps:
        pass


async def _steps(store: StoreChanges, text: str) -> AsyncIterator[Mapping[str, Any]]:
    """The steps of a pull; the first one comes when there is something to say."""
    manifest = {"status": "pulling manifest"}
    async with store.pull(text) as pull:
        begun = False
        async for event in pull.events():
            if not begun:
                begun = True
                yield manifest
            layer = layer_of(event)
            if layer is not None:
                yield _progress(*layer)
    if not begun:
        yield manifest
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    yield {"status": "success"}


def _progress(digest: str, size: int, done: int) -> Mapping[str, Any]:
    short = digest.removeprefix("sha256:")[:12]
    found: dict[str, Any] = {"status": f"pulling {short}", "digest": digest, "total": size}
    return {**found, "completed": done} if done else found


@contextmanager
def _not_found_as(text: str) -> Iterator[None]:
    """The block in which a missing model is missed in Ollama's words."""
    try:
        yield
    except ModelNotFoundError as exc:
        raise names.not_found(text) from exc


def _recipe(fields: Mapping[str, object]) -> Recipe:
    """What a request for a new model asks to be different.

    Raises:
        RefusalError: Something of that cannot be.
    """
    for name, why in (
        ("files", "use `modelrunner package` for files"),
        ("adapters", "set adapters with `modelrunner configure REF --set lora=FILE`"),
        ("quantize", "pull a variant with the quantization that you want"),
        ("quantization", "pull a variant with the quantization that you want"),
        ("messages", "send them with each request"),
        ("modelfile", "send its instructions as fields"),
    ):
        if fields.get(name):
            raise RefusalError(400, f"`{name}` is not supported: {why}", "unsupported_field")
    settings = dict(_settings(fields.get("parameters")))
    system, template = fields.get("system"), fields.get("template")
    if isinstance(system, str) and system:
        settings["system"] = system
    if isinstance(template, str) and _GO_TEMPLATE.search(template):
        raise RefusalError(
            400,
            "invalid `template`: expected Jinja, got a Go template: leave it out to keep"
            " that of the model",
            "unsupported_field",
        )
    licenses = fields.get("license")
    texts = [licenses] if isinstance(licenses, str) else licenses
    return Recipe(
        settings=settings,
        template=template if isinstance(template, str) and template else None,
        licenses=[str(text) for text in texts if text] if isinstance(texts, list) else (),
    )


def _settings(parameters: object) -> Mapping[str, str]:
    if not isinstance(parameters, dict):
        return {}
    found = {}
    for name, value in parameters.items():
        key = _NUMBERS.get(name)
        if key is None or isinstance(value, bool) or not isinstance(value, int | float):
            raise RefusalError(
                400,
                f"the parameter {str(name)[:80]!r} cannot be kept in a model: send it with each"
                " request",
                "unsupported_field",
            )
        found[key] = f"{value:g}" if isinstance(value, float) else str(value)
    return found


def _text(fields: Mapping[str, object], name: str) -> str:
    text = fields.get(name)
    if not isinstance(text, str) or not text:
        raise RefusalError(400, f"the field `{name}` is missing", "missing_field")
    return text


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _failure(message: str) -> bytes:
    return _line({"error": message})


def _unsupported(message: str) -> RefusalError:
    return RefusalError(501, message, "unsupported", [FINAL])
