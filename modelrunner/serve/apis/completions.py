"""Completions with probabilities: those of a chat, which runtimes send, in the form of completions.

Programs that evaluate models read them: `tokens`, `token_logprobs`, `top_logprobs`, `text_offset`.
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from modelrunner.serve.bodies.additions import append_fields
from modelrunner.serve.bodies.request import Bodies
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.events import LongEventError, event_data
from modelrunner.serve.models import Served
from modelrunner.serve.relay import Question
from modelrunner.serve.upstream import BrokenOffError, Reply
from modelrunner.wire import parse_object

_MOST = 20
_EVENTS = b"text/event-stream"


@dataclass(frozen=True, slots=True)
class Completions:
    """Makes questions of requests for completions."""

    bodies: Bodies

    async def __call__(self, _scope: Scope, raw: bytearray) -> Question:
        """Return the question of a request.

        Raises:
            RefusalError: It asks for the probabilities of too many tokens.
        """
        fields = await self.bodies.understand(raw)
        wanted = fields.logprobs
        if wanted is None:
            return Question("completions", raw, fields)
        if not 0 <= wanted <= _MOST:
            message = f"`logprobs` is not between 0 and {_MOST}"
            raise RefusalError(400, message, "invalid_value")
        # for none the runtime would send none
        append_fields(raw, {"logprobs": max(1, wanted)})
        # `true` is a chat's, and asks for the token alone
        return Question("completions", raw, fields, _Form(0 if wanted is True else wanted).reply)


@dataclass(frozen=True, slots=True)
class _Form:
    """Puts probabilities into the form of completions.

    Attributes:
        wanted: How many tokens are shown at each place.
    """

    wanted: int

    def reply(self, reply: Reply, _model: Served) -> Reply:
        """Return the answer for the client."""
        headers = [pair for pair in reply.headers if pair[0] != b"content-length"]
        streams = reply.header(b"content-type").startswith(_EVENTS)
        body = self._events(reply.body) if streams else self._whole(reply)
        return Reply(reply.status, headers, body)

    async def _events(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        offsets = _Offsets()
        try:
            async for data in event_data(body):
                if data == b"[DONE]":
                    yield b"data: [DONE]\n\n"
                else:
                    yield b"data: " + self._formed(parse_object(data), offsets) + b"\n\n"
        except (ValueError, LongEventError) as exc:
            raise BrokenOffError(str(exc)) from exc

    async def _whole(self, reply: Reply) -> AsyncIterator[bytes]:
        yield self._formed(await reply.value(), _Offsets())

    def _formed(self, value: Mapping[str, Any], offsets: "_Offsets") -> bytes:
        choices = value.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            entries = (choice.get("logprobs") or {}).get("content")
            if isinstance(entries, list):
                choice["logprobs"] = self._logprobs(entries, choice.get("index", 0), offsets)
        return json.dumps(value, separators=(",", ":")).encode()

    def _logprobs(
        self, entries: list[Mapping[str, Any]], index: int, offsets: "_Offsets"
    ) -> Mapping[str, Any]:
        tokens = [str(entry.get("token", "")) for entry in entries]
        tops = [
            {str(each.get("token", "")): each.get("logprob") for each in top[: self.wanted]}
            for top in (entry.get("top_logprobs") or [] for entry in entries)
        ]
        return {
            "tokens": tokens,
            "token_logprobs": [entry.get("logprob") for entry in entries],
            "top_logprobs": tops if self.wanted else None,
            "text_offset": [offsets.next(index, token) for token in tokens],
        }


@dataclass(slots=True)
class _Offsets:
    """Where the next token of each answer begins."""

    places: dict[int, int] = field(default_factory=dict)

    def next(self, index: int, token: str) -> int:
        """Where a token begins; the next one begins behind it."""
        place = self.places.get(index, 0)
        self.places[index] = place + len(token)
        return place
