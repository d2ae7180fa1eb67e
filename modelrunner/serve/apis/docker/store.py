"""What Docker's clients change in the local store: models are pulled, tagged and removed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NoReturn

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelrunner.errors import UsageError
from modelrunner.serve.apis.docker.models import is_set
from modelrunner.serve.apis.docker.progress import PullLines, failure, warning
from modelrunner.serve.apis.pulls import streamed
from modelrunner.serve.apis.served import Server
from modelrunner.serve.changes import StoreChanges
from modelrunner.serve.client.errors import FINAL, RefusalError
from modelrunner.serve.library import Recipe, Removal

_MOST_TOKENS = 2**31 - 1


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
        lines = _pulled(store, name, token_ignored=ignored)
        kind = "application/json" if _wants_json(request) else "text/plain"
        return await streamed(request, lines, failure, media_type=kind)

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

    async def push(self, request: Request) -> NoReturn:
        """Refuse to push: the user's logins are not for requests."""
        text = request.path_params["model"][:200]
        raise _refused(f"cannot push {text} over HTTP: use `modelrunner push {text}`")

    async def load(self, _request: Request) -> NoReturn:
        """Refuse files: what is packaged and loaded is read on this machine."""
        raise _refused(
            "cannot take a model over HTTP: use `modelrunner package` or `modelrunner load`"
        )

    async def export(self, request: Request) -> NoReturn:
        """Refuse to send a whole model."""
        text = request.path_params["model"][:200]
        raise _refused(f"cannot export {text} over HTTP: use `modelrunner save {text} -o FILE`")


def _refused(message: str) -> RefusalError:
    return RefusalError(501, message, "unsupported", [FINAL])


def _wants_json(request: Request) -> bool:
    return request.headers.get("accept") == "application/json"


def _actions(removed: Removal) -> list[dict[str, str]]:
    actions = [{"Untagged": str(name)} for name in removed.names]
    return [*actions, {"Deleted": str(removed.digest)}] if removed.last else actions


async def _pulled(store: StoreChanges, name: str, *, token_ignored: bool) -> AsyncIterator[bytes]:
    """The lines of a pull."""
    lines = PullLines()
    async with store.pull(name) as pull:
        async for event in pull.events():
            if token_ignored:
                token_ignored = False
                yield warning("the token of the request is not used: the server has its own")
            line = lines.of(event)
            if line is not None:
                yield line
    yield lines.success()
