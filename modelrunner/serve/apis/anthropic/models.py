"""The models that are served, as Anthropic's API lists them."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelrunner.serve.apis.served import moment
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.pool import Slot
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_count

_MOST = 1000
_USUAL = 20


def is_anthropics(request: Request) -> bool:
    """Whether a request for the models is one of Anthropic's clients."""
    return "anthropic-version" in request.headers


def page(request: Request, slots: Sequence[Slot]) -> Response:
    """Return a page of the models: `limit`, `after_id`, `before_id`."""
    query = request.query_params
    limit = parse_count(query.get("limit", str(_USUAL)))
    if limit is None or not 1 <= limit <= _MOST:
        raise RefusalError(400, f"`limit` is not between 1 and {_MOST}", "invalid_value")
    names = [slot.model.name for slot in slots]
    start, end = 0, len(names)
    if "after_id" in query:
        start = _place(names, query["after_id"]) + 1
        end = min(end, start + limit)
    elif "before_id" in query:
        end = _place(names, query["before_id"])
        start = max(0, end - limit)
    else:
        end = min(end, limit)
    more = start > 0 if "before_id" in query else end < len(names)
    data = [described(slot) for slot in slots[start:end]]
    return JSONResponse(
        {
            "data": data,
            "has_more": more,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }
    )


def described(slot: Slot) -> dict[str, object]:
    """A model as Anthropic's API describes it."""
    model = slot.model
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": moment(model.facts.created or 0),
        "max_input_tokens": slot.context,
        "max_tokens": slot.context,
    }


def _place(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise RefusalError(404, f"model not found: {sanitize_line(name, 200)}", "not_found")
    return names.index(name)
