"""`/score`: how well texts match, as vLLM has it; ranking models answer it as `rerank`."""

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import Scope

from modelrunner.serve.bodies.fields import Fields, InvalidBodyError, found_in, read_object
from modelrunner.serve.bodies.request import Bodies
from modelrunner.serve.models import Served
from modelrunner.serve.relay import Question
from modelrunner.serve.upstream import JSON, BrokenOffError, Reply


@dataclass(frozen=True, slots=True)
class Score:
    """Makes questions of requests for scores."""

    bodies: Bodies

    async def __call__(self, _scope: Scope, raw: bytearray) -> Question:
        """Return the question of a request.

        Raises:
            RefusalError: The request is invalid.
        """
        found, (body,) = await self.bodies.run(as_rerank, raw)
        return Question("rerank", bytearray(body), Fields(**found), _scored)


def as_rerank(raw: bytes) -> tuple[Mapping[str, Any], Sequence[bytes]]:
    """Return what matters of a request for scores, and the body of one for `rerank`.

    Raises:
        InvalidBodyError: The texts are missing, or are several pairs.
    """
    value = read_object(raw)
    first, second = _texts(value, "text_1"), _texts(value, "text_2")
    if len(first) != 1:
        raise InvalidBodyError(
            "a list of several texts in `text_1` is not supported: send one request for each",
            "unsupported_field",
        )
    asked: dict[str, Any] = {"query": first[0], "documents": second}
    if "model" in value:
        asked["model"] = value["model"]
    body = json.dumps(asked).encode()
    return found_in(asked, body)[0], [body]


def _texts(value: Mapping[str, Any], name: str) -> list[str]:
    given = value.get(name)
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise InvalidBodyError(f"`{name}` is not a text or a list of texts", "invalid_value")
    return texts


def _scored(reply: Reply, model: Served) -> Reply:
    return Reply(reply.status, JSON, _body(reply, model))


async def _body(reply: Reply, model: Served) -> AsyncIterator[bytes]:
    ranked = await reply.value()
    try:
        scores = {each["index"]: each["relevance_score"] for each in ranked["results"]}
    except (KeyError, TypeError) as exc:
        raise BrokenOffError(str(exc)) from exc
    value = {
        "id": f"score-{secrets.token_hex(12)}",
        "object": "list",
        "created": int(time.time()),
        "model": model.name,
        "data": [
            {"index": index, "object": "score", "score": scores[index]} for index in sorted(scores)
        ],
        "usage": ranked.get("usage", {}),
    }
    yield json.dumps(value).encode()
