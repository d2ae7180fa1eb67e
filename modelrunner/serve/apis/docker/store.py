"""What Docker's clients change in the local store: models come, are named, pushed and removed."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from modelrunner.errors import CorruptStoreError, IntegrityError, ModelRunnerError, UsageError
from modelrunner.serve.apis.docker.models import is_set
from modelrunner.serve.apis.docker.progress import (
    Mode,
    TransferLines,
    failure,
    success,
    warning,
)
from modelrunner.serve.apis.pulls import streamed
from modelrunner.serve.apis.served import Server
from modelrunner.serve.bodies.request import GoneError
from modelrunner.serve.client.errors import FINAL, RefusalError, refusal_for
from modelrunner.serve.library import Export, Recipe, Removal
from modelrunner.serve.transfers import Transfer

_MOST_TOKENS = 2**31 - 1
_MOST_TOKEN = 64 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+")
_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Changes:
    """The addresses under `/models` that change something."""

    server: Server

    async def create(self, request: Request) -> Response:
        """Pull a model, with a line of JSON for each step."""
        store = self.server.changing(request)
        fields = await self.server.fields(request)
        name = fields.get("from")
        if not isinstance(name, str) or not name:
            raise RefusalError(400, "the field `from` is missing: name a model", "no_model")
        ignored = bool(fields.get("bearer-token"))
        return await _lines(
            request, _steps(store.pull(name), "pull", token_ignored=ignored), "pull"
        )

    async def delete(self, request: Request) -> Response:
        """Remove a name, and with the last one the model."""
        store, force = self.server.changing(request), is_set(request, "force")
        text = request.path_params["model"]
        try:
            removed = await store.remove(text, force=force)
        except UsageError as exc:
            # an ID with several names
            raise RefusalError(
                409, f"{exc.message}; use `force=true` to remove all names", "conflict", [FINAL]
            ) from exc
        return JSONResponse(_actions(removed))

    async def purge(self, request: Request) -> Response:
        """Remove all models."""
        store = self.server.changing(request)
        for model in await store.models():
            await store.remove(str(model.digest), force=True)
        return Response()

    async def tag(self, request: Request) -> Response:
        """Give a model one more name."""
        store = self.server.changing(request)
        repository, tag = (request.query_params.get(name, "") for name in ("repo", "tag"))
        if not repository or not tag:
            raise RefusalError(
                400, "the parameters `repo` and `tag` are needed: ?repo=NAME&tag=TAG", "no_name"
            )
        target = f"{repository}:{tag}"
        await store.tag(request.path_params["model"], target)
        done = {"message": f'Model tagged successfully with "{target}"', "target": target}
        return JSONResponse(done, 201)

    async def repackage(self, request: Request) -> Response:
        """Make a model of one that is stored, with another context size."""
        store = self.server.changing(request)
        fields = await self.server.fields(request)
        source, target = request.path_params["model"], fields.get("target")
        if not isinstance(target, str) or not target:
            raise RefusalError(400, "the field `target` is missing: name the new model", "no_name")
        tokens = fields.get("context_size")
        settings = {}
        if tokens is not None:
            if type(tokens) is not int or not 0 < tokens <= _MOST_TOKENS:
                raise RefusalError(
                    400, "invalid `context_size`: expected a number of tokens", "invalid_value"
                )
            settings["context"] = str(tokens)
        await store.create(source, target, Recipe(settings=settings))
        message = f'Model repackaged successfully as "{target}"'
        return JSONResponse({"message": message, "source": source, "target": target}, 201)

    async def push(self, request: Request) -> Response:
        """Push a model to the registry of its name, with a line of JSON for each step."""
        store = self.server.changing(request)
        fields = await self.server.fields(request, _MOST_TOKEN)
        token = fields.get("bearer-token") or ""
        if not isinstance(token, str) or (token and not _TOKEN.fullmatch(token)):
            raise RefusalError(
                400, "invalid `bearer-token`: expected letters, digits and signs", "invalid_value"
            )
        pushing = store.push(request.path_params["model"], token)
        return await _lines(request, _steps(pushing, "push"), "push")

    async def load(self, request: Request) -> Response:
        """Take a model as a tar: an archive of Docker Model Runner, or an OCI image layout."""
        store = self.server.changing(request)
        try:
            async with self.server.bodies.stream(request.receive) as archive:
                await store.load(archive)
        except CorruptStoreError:
            raise
        except IntegrityError as exc:
            # what was sent is wrong, and no server behind this one
            found = refusal_for(exc)
            raise RefusalError(400, found.message, found.code, [FINAL]) from exc
        except GoneError as exc:
            raise RefusalError(499, "the client closed the connection", "gone") from exc
        line = success("Model loaded successfully", "pull")
        return Response(line, media_type=_line_type(request))

    async def export(self, request: Request) -> Response:
        """Send a model as an archive of Docker Model Runner."""
        text = request.path_params["model"]
        archive = await self.server.local_store().export(text)
        name = _ODD.sub("-", text)[:100]
        headers = {
            "content-length": str(archive.size),
            "content-disposition": f'attachment; filename="{name}.tar"',
        }
        return StreamingResponse(_sent(archive), 200, headers, "application/x-tar")


def _wants_json(request: Request) -> bool:
    return request.headers.get("accept") == "application/json"


def _actions(removed: Removal) -> list[dict[str, str]]:
    actions = [{"Untagged": str(name)} for name in removed.names]
    return [*actions, {"Deleted": str(removed.digest)}] if removed.last else actions


def _line_type(request: Request) -> str:
    return "application/json" if _wants_json(request) else "text/plain"


async def _lines(request: Request, lines: AsyncIterator[bytes], mode: Mode) -> Response:
    return await streamed(
        request, lines, partial(failure, mode=mode), media_type=_line_type(request)
    )


async def _steps(
    watched: AbstractAsyncContextManager[Transfer], mode: Mode, *, token_ignored: bool = False
) -> AsyncIterator[bytes]:
    """The lines of a pull or push."""
    lines = TransferLines(mode)
    async with watched as transfer:
        async for event in transfer.events():
            if token_ignored:
                token_ignored = False
                yield warning("the token of the request is not used: the server has its own", mode)
            line = lines.of(event)
            if line is not None:
                yield line
    yield lines.success()


async def _sent(archive: Export) -> AsyncIterator[bytes]:
    chunks = archive.chunks()
    try:
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            # the buffer behind it is used again
            yield bytes(chunk)
    except ModelRunnerError as exc:
        # too late for another status: the client sees that bytes are missing
        _log.warning("an export was broken off: %s", exc.message)
        raise ConnectionAbortedError from exc
