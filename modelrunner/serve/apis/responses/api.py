"""The addresses of OpenAI's Responses."""

from dataclasses import dataclass
from itertools import product
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modelrunner.serve.apis.responses.exchange import Exchange, owner_of
from modelrunner.serve.apis.responses.kept import KeptResponse, KeptResponses
from modelrunner.serve.apis.served import Server
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.client.keys import ApiKeys
from modelrunner.serve.relay import Relay
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_count

_PREFIXES = ("/v1", "/engines/v1", "/engines/{engine}/v1", "", "/engines")
_MOST_LISTED = 100
_LISTED = 20


def routes(server: Server) -> list[Route]:
    """`/responses` and what is below it."""
    kept = KeptResponses()
    keys = server.policy.keys
    exchange = Exchange(server.bodies, kept, keys)
    api = _Api(kept, keys)
    pool, bodies = server.pool, server.bodies
    create = Relay(pool, "responses", bodies, exchange)
    count = Relay(pool, "responses/input_tokens", bodies, exchange.counted)
    table: tuple[tuple[str, Any, str], ...] = (
        ("", create, "POST"),
        ("/input_tokens", count, "POST"),
        ("/compact", api.compact, "POST"),
        ("/{response}", api.retrieve, "GET"),
        ("/{response}", api.delete, "DELETE"),
        ("/{response}/cancel", api.cancel, "POST"),
        ("/{response}/input_items", api.input_items, "GET"),
    )
    return [
        Route(f"{prefix}/responses{path}", endpoint, methods=[method])
        for prefix, (path, endpoint, method) in product(_PREFIXES, table)
    ]


@dataclass(frozen=True, slots=True)
class _Api:
    kept: KeptResponses
    keys: ApiKeys

    async def retrieve(self, request: Request) -> Response:
        if request.query_params.get("stream") == "true":
            raise RefusalError(
                400, "a kept response cannot be streamed: leave out `stream`", "unsupported_field"
            )
        return Response(self._found(request).raw, media_type="application/json")

    async def delete(self, request: Request) -> Response:
        response = self._found(request)
        self.kept.remove(owner_of(request.scope, self.keys), response.name)
        return JSONResponse({"id": response.name, "object": "response", "deleted": True})

    async def cancel(self, request: Request) -> NoReturn:
        response = self._found(request)
        raise RefusalError(
            400,
            f"{response.name} cannot be canceled: only responses with `background` can, which is"
            " not supported",
            "unsupported",
        )

    async def compact(self, _request: Request) -> NoReturn:
        raise RefusalError(
            400, "compaction is not supported: send a shorter conversation", "unsupported"
        )

    async def input_items(self, request: Request) -> Response:
        """A page of the input, the newest first unless `order` is `asc`."""
        response = self._found(request)
        query = request.query_params
        limit = parse_count(query.get("limit", str(_LISTED)))
        order = query.get("order", "desc")
        if limit is None or not 1 <= limit <= _MOST_LISTED:
            raise RefusalError(400, f"`limit` is not between 1 and {_MOST_LISTED}", "invalid_value")
        if order not in {"asc", "desc"}:
            raise RefusalError(400, "`order` is neither asc nor desc", "invalid_value")
        items = response.items if order == "asc" else response.items[::-1]
        after = query.get("after")
        if after is not None:
            names = [item.name for item in items]
            if after not in names:
                shown = sanitize_line(after, 100)
                raise RefusalError(404, f"item not found: {shown}", "not_found")
            items = items[names.index(after) + 1 :]
        page = items[:limit]
        ends = JSONResponse(
            {
                "first_id": page[0].name if page else None,
                "last_id": page[-1].name if page else None,
                "has_more": len(page) < len(items),
            }
        ).body
        data = b",".join(item.raw for item in page)
        raw = b'{"object":"list","data":[' + data + b"]," + bytes(ends)[1:]
        return Response(raw, media_type="application/json")

    def _found(self, request: Request) -> KeptResponse:
        name = request.path_params["response"]
        response = self.kept.find(owner_of(request.scope, self.keys), name)
        if response is None:
            raise RefusalError(
                404,
                f"response not found: {sanitize_line(name, 100)}; responses are kept in memory,"
                " the newest ones, unless `store` is false",
                "not_found",
            )
        return response
