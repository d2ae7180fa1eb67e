"""One request for a response: what the runtime is asked, and what its answer becomes."""

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from modelrunner.serve.apis.chunks import taken
from modelrunner.serve.apis.responses.answer import Answer, AnswerOptions, Event
from modelrunner.serve.apis.responses.kept import KeptItem, KeptResponse, KeptResponses
from modelrunner.serve.apis.responses.request import translate
from modelrunner.serve.bodies.fields import Fields
from modelrunner.serve.bodies.request import Bodies
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.client.keys import ApiKeys, carried
from modelrunner.serve.models import Served
from modelrunner.serve.relay import Question
from modelrunner.serve.upstream import EVENTS, JSON, Reply
from modelrunner.text import sanitize_line


def owner_of(scope: Scope, keys: ApiKeys) -> str:
    """What tells clients apart: the key that a request carries, where the server has some."""
    key = keys.find(carried(dict(scope["headers"])))
    return key.secret if key is not None else ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Makes questions to runtimes of requests.

    Attributes:
        bodies: What reads bodies.
        kept: What was answered before.
        keys: The keys of clients.
    """

    bodies: Bodies
    kept: KeptResponses
    keys: ApiKeys

    async def __call__(self, scope: Scope, raw: bytearray) -> Question:
        """Return the question of a request for a response.

        Raises:
            RefusalError: It is not one, or asks for what cannot be had.
        """
        owner = owner_of(scope, self.keys)
        before: tuple[KeptItem, ...] = ()
        found, parts = await self.bodies.run(translate, raw, b"{}")
        if "needed" in found:
            before, earlier = self._earlier(owner, **found["needed"])
            found, parts = await self.bodies.run(translate, raw, earlier)
        chat, repeated, *items = parts
        named = [
            self._shared(owner, KeptItem(name, bytes(item)))
            for name, item in zip(found["items"], items, strict=True)
        ]
        answering = Answering(
            store=self.kept if found["store"] else None,
            owner=owner,
            repeated=bytes(repeated),
            items=(*before, *named),
            options=AnswerOptions(
                custom=found["custom"],
                namespaces=found["namespaces"],
                summary=found["summary"] is not None,
                sealed=found["sealed"],
            ),
            streams=found["stream"],
            reasoning={"effort": found["effort"], "summary": found["summary"]},
        )
        return Question(
            "chat/completions", bytearray(chat), Fields(**found["fields"]), answering.reply
        )

    async def counted(self, scope: Scope, raw: bytearray) -> Question:
        """Return the question of how many tokens a request has.

        Raises:
            RefusalError: As above.
        """
        question = await self(scope, raw)
        return Question("chat/completions/input_tokens", question.body, question.fields)

    def _earlier(
        self, owner: str, previous: str | None, items: Sequence[str]
    ) -> tuple[tuple[KeptItem, ...], bytes]:
        """What a request needs of earlier responses: the conversation, and all as JSON."""
        before: tuple[KeptItem, ...] = ()
        parts = []
        if previous:
            response = self.kept.find(owner, previous)
            if response is None:
                raise RefusalError(
                    400,
                    f"the previous response {sanitize_line(previous, 100)} is not kept: send the"
                    " whole conversation as `input`",
                    "previous_response_not_found",
                )
            before = response.conversation
            parts.append(b'"before":[' + b",".join(item.raw for item in before) + b"]")
        known = {each: self.kept.find_item(owner, each) for each in items}
        entries = [
            json.dumps(each).encode() + b":" + item.raw for each, item in known.items() if item
        ]
        parts.append(b'"items":{' + b",".join(entries) + b"}")
        return before, b"{" + b",".join(parts) + b"}"

    def _shared(self, owner: str, item: KeptItem) -> KeptItem:
        """The item that is kept already, where it is the same."""
        known = self.kept.find_item(owner, item.name)
        return known if known is not None and known.raw == item.raw else item


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """What is made of a runtime's answer.

    Attributes:
        store: Where the response is kept; None for nowhere.
        owner: Whose it is.
        repeated: What the response repeats of its request, as the inside of an object.
        items: Its whole input.
        options: What the request says of the answer.
        streams: Whether the client gets events.
        reasoning: How much the model thinks.
    """

    store: KeptResponses | None
    owner: str
    repeated: bytes
    items: tuple[KeptItem, ...]
    options: AnswerOptions
    streams: bool
    reasoning: Mapping[str, Any]

    def reply(self, reply: Reply, model: Served) -> Reply:
        """Return the answer for the client."""
        response = _Response(self, model.name)
        if self.streams:
            return Reply(200, EVENTS, response.events(reply.body))
        return Reply(200, JSON, response.whole(reply.body))


@dataclass(slots=True)
class _Response:
    """A response as it comes to be."""

    about: Answering
    model: str
    name: str = field(default_factory=lambda: f"resp_{secrets.token_hex(24)}")
    created: int = field(default_factory=lambda: int(time.time()))
    number: int = 0

    async def events(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The events for a client."""
        answer = Answer(self.about.options)
        async for events in taken(answer, body):
            if not self.number:
                yield self._lifecycle("created", self._raw("in_progress"))
                yield self._lifecycle("in_progress", self._raw("in_progress"))
            if events:
                yield b"".join(map(self._event, events))
        pieces = [self._event(event) for event in answer.end()]
        last = self._lifecycle(answer.status, self._kept(answer))
        yield b"".join([*pieces, last])

    async def whole(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The response for a client that waits for all of it."""
        answer = Answer(self.about.options)
        async for _events in taken(answer, body):
            pass
        for _event in answer.end():
            pass
        yield self._kept(answer)

    def _event(self, event: Event) -> bytes:
        # last in the event: what ends a stream that breaks off finds it there
        event["sequence_number"] = self.number
        self.number += 1
        return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encoded(event))

    def _lifecycle(self, kind: str, raw: bytes) -> bytes:
        name = f"response.{kind}".encode()
        number, self.number = self.number, self.number + 1
        return b'event: %b\ndata: {"type":"%b","response":%b,"sequence_number":%d}\n\n' % (
            name,
            name,
            raw,
            number,
        )

    def _kept(self, answer: Answer) -> bytes:
        raw = self._raw(answer.status, answer)
        if self.about.store is not None:
            output = tuple(KeptItem(item["id"], _encoded(item)) for item in answer.output)
            kept = KeptResponse(self.name, raw, self.about.items, output)
            self.about.store.add(self.about.owner, kept)
        return raw

    def _raw(self, status: str, answer: Answer | None = None) -> bytes:
        """The response as JSON."""
        done = answer is not None and status == "completed"
        head = {
            "id": self.name,
            "object": "response",
            "created_at": self.created,
            "completed_at": int(time.time()) if done else None,
            "status": status,
            "error": None,
            "incomplete_details": answer.incomplete_details if answer is not None else None,
            "model": self.model,
            "reasoning": self.about.reasoning,
        }
        tail = {
            "output": answer.output if answer is not None else [],
            "usage": answer.usage if answer is not None else None,
        }
        return b",".join([_encoded(head)[:-1], self.about.repeated, _encoded(tail)[1:]])


def _encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
