"""One request for text or vectors: what the runtime is asked, and what its answer becomes."""

import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.types import Scope

from modelrunner.errors import ModelRunnerError
from modelrunner.runtime.base import Ability
from modelrunner.runtime.capabilities.think import Thinker, Thought
from modelrunner.serve.apis import keep_alive
from modelrunner.serve.apis.ollama import names
from modelrunner.serve.apis.ollama.inference import answers, requests, vectors
from modelrunner.serve.apis.ollama.inference.answers import Form
from modelrunner.serve.apis.ollama.times import moment, nanoseconds
from modelrunner.serve.bodies.additions import (
    append_fields,
    insert_system_prompt,
    knows_no_tools,
)
from modelrunner.serve.bodies.fields import Fields
from modelrunner.serve.bodies.parsing import Work
from modelrunner.serve.bodies.request import Bodies
from modelrunner.serve.client.errors import RefusalError, refusal_for
from modelrunner.serve.models import Kind, Served
from modelrunner.serve.pool import ModelPool
from modelrunner.serve.relay import Known, Question, not_loaded
from modelrunner.serve.upstream import BrokenOffError, Reply, asked
from modelrunner.wire import parse_json

_JSON = [(b"content-type", b"application/json; charset=utf-8")]
_LINES = [(b"content-type", b"application/x-ndjson")]
_LEVELS = {"low", "medium", "high"}
_DOES: Mapping[Kind, str] = {"chat": "chat", "embedding": "embeddings", "ranking": "reranking"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Makes questions to runtimes of requests.

    Attributes:
        pool: The models.
        bodies: What reads bodies.
    """

    pool: ModelPool
    bodies: Bodies

    async def chat(self, _scope: Scope, raw: bytearray) -> Question | Known:
        """The question of a request for an answer to messages.

        Raises:
            RefusalError: The request is invalid, or asks for what the model cannot do.
        """
        begun = time.monotonic()
        found, (body, *_) = await self._read(requests.chat, raw)
        model = self._model(found, "chat")
        if found["empty"]:
            return await self._loaded(model, found, {"message": _NOTHING})
        if found["tools"] and not self.pool.runtime.external and knows_no_tools(model):
            raise RefusalError(
                400, f'"{found["model"]}" does not support tools', "unsupported_field"
            )
        form = Form(model=found["model"], chats=True, begun=begun)
        return self._asked(model, found, bytearray(body), form)

    async def generate(self, _scope: Scope, raw: bytearray) -> Question | Known:
        """The question of a request for an answer to a prompt; raises what `chat` does."""
        begun = time.monotonic()
        found, (body, *conversation) = await self._read(requests.generate, raw)
        model = self._model(found, "chat")
        if found["empty"]:
            return await self._loaded(model, found, {"response": ""})
        form = Form(model=found["model"], chats=False, begun=begun)
        # bounded: only what the answer may have
        said = [parse_json(each) for each in conversation if len(each) <= _MOST_CONVERSATION]
        form = replace(form, conversation=said[0] if said else None)
        return self._asked(model, found, bytearray(body), form)

    async def embed(self, _scope: Scope, raw: bytearray) -> Question | Known:
        """The question of a request for vectors; raises what `chat` does."""
        return await self._vectors(raw, single=False)

    async def embeddings(self, _scope: Scope, raw: bytearray) -> Question | Known:
        """The question of a request for one vector, as it was before `embed`."""
        return await self._vectors(raw, single=True)

    async def _vectors(self, raw: bytearray, *, single: bool) -> Question | Known:
        begun = time.monotonic()
        found, (body, *_) = await self._read(requests.embed, raw)
        model = self._model(found, "embedding")
        if found["empty"]:
            await self._load(model)
            nothing = {"embedding": []} if single else {"model": found["model"], "embeddings": []}
            return Known(json.dumps(nothing).encode(), model.name)

        def reply(reply: Reply, model: Served) -> Reply:
            shape = {
                "single": single,
                "dimensions": found["dimensions"],
                "head": {
                    "model": found["model"],
                    "total_duration": nanoseconds(time.monotonic() - begun),
                    "load_duration": nanoseconds(self._load_s(model, begun)),
                },
            }
            return Reply(200, _JSON, self._converted(reply.body, json.dumps(shape).encode()))

        if found["truncate"] and not self.pool.runtime.external:
            body = await self._shortened(model, body, found["longest"])
        return Question("embeddings", bytearray(body), Fields(**found["fields"]), reply)

    async def _shortened(self, model: Served, body: bytes, longest: int) -> bytes:
        """A request for vectors without what its texts have beyond the context of a model."""
        limit = self.pool.slots[model.name].context
        if longest <= limit:
            return body
        found, parts = await self.bodies.run(vectors.long_texts, body, str(limit).encode())
        try:
            async with self.pool.borrowed(model) as server:
                url = f"{server.base_url.removesuffix('/v1')}/tokenize"
                tokens = [await _answer_to(url, part, server.api_key) for part in parts]
        except ModelRunnerError as exc:
            raise not_loaded(exc) from exc
        except BrokenOffError:
            # the request itself will say what is wrong
            return body
        if None in tokens:
            return body
        about = json.dumps({"places": found["places"], "limit": limit}).encode()
        known = [each for each in tokens if each is not None]
        _, (made, *_) = await self.bodies.run(vectors.shortened, body, about, *known)
        return bytes(made)

    async def _converted(self, body: AsyncIterator[bytes], shape: bytes) -> AsyncIterator[bytes]:
        raw = bytearray()
        async for piece in body:
            raw += piece
        _, (made, *_) = await self.bodies.run(vectors.converted, raw, shape)
        yield bytes(made)

    async def _read(self, work: Work, raw: bytearray) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        found, parts = await self.bodies.run(work, raw)
        return dict(found), tuple(parts)

    def _model(self, found: Mapping[str, Any], kind: Kind) -> Served:
        """The model of a request, which stays in memory afterwards for as long as it says.

        Raises:
            RefusalError: The model is not served or not of this kind, or `keep_alive` is invalid.
        """
        try:
            model = names.found(self.pool, found["model"])
        except ModelRunnerError as exc:
            raise refusal_for(exc) from exc
        if model.kind != kind:
            raise RefusalError(
                400, f'"{found["model"]}" does not support {_DOES[kind]}', "wrong_endpoint"
            )
        try:
            kept = keep_alive.parse(found["keep_alive"])
        except keep_alive.InvalidDurationError as exc:
            said = str(found["keep_alive"])[:80]
            raise RefusalError(
                400,
                f"invalid `keep_alive` {said!r}: expected a duration such as 5m, or seconds",
                "invalid_keep_alive",
            ) from exc
        slot = self.pool.slots[model.name]
        if kept is not None:
            slot.kept_s = kept
        wanted = found["context"]
        if wanted is not None and wanted > slot.context:
            _log.info(
                "%s: num_ctx %s requested, the context is %s: serve it with --context %s",
                model.name,
                wanted,
                slot.context,
                wanted,
            )
        return model

    def _asked(
        self, model: Served, found: Mapping[str, Any], body: bytearray, form: Form
    ) -> Question:
        fields = Fields(**found["fields"])
        thought = self._thought(model, found)
        if thought is not None:
            fields = _think(body, fields, thought, model, found["system_at"])
        streams, thoughts = found["streams"], found["think"] is not False

        def reply(reply: Reply, model: Served) -> Reply:
            written = replace(form, load_s=self._load_s(model, form.begun), thoughts=thoughts)
            if streams:
                return Reply(200, _LINES, answers.lines(written, reply.body))
            return Reply(200, _JSON, answers.whole(written, reply.body))

        return Question(found["endpoint"], body, fields, reply)

    def _thought(self, model: Served, found: Mapping[str, Any]) -> Thought | None:
        """What is sent for `think`; None for nothing.

        Raises:
            RefusalError: The model does not think, or the level is invalid.
        """
        think = found["think"]
        if think is None or think == "":
            return None
        level = {True: "on", False: "off"}.get(think) if isinstance(think, bool) else think.lower()
        if level not in {"on", "off", *_LEVELS}:
            raise RefusalError(
                400,
                f"invalid `think` {str(think)[:80]!r}: expected true, false, low, medium or high",
                "invalid_think",
            )
        known = model.facts.capabilities
        external = self.pool.runtime.external
        if known is None or known.thinking is None:
            if level == "off":
                return None
            if known is not None and not external:
                raise RefusalError(
                    400, f'"{found["model"]}" does not support thinking', "unsupported_field"
                )
        thinking = None if known is None else known.thinking
        limits = Ability.LIMITS_THOUGHTS in self.pool.runtime.abilities
        return Thinker(model.name, thinking, budgets=limits, known=not external).ask(level)

    async def _loaded(
        self, model: Served, found: Mapping[str, Any], answer: Mapping[str, Any]
    ) -> Known:
        """The answer to a request without a prompt: the model is loaded, or unloaded."""
        slot = self.pool.slots[model.name]
        leaves = slot.kept_s == 0
        if not leaves:
            await self._load(model)
        elif not slot.users:
            await self.pool.unload(slot, "asked for")
        done = {
            "model": found["model"],
            "created_at": moment(time.time()),
            **answer,
            "done": True,
            "done_reason": "unload" if leaves else "load",
        }
        return Known(json.dumps(done).encode(), model.name)

    async def _load(self, model: Served) -> None:
        try:
            async with self.pool.borrowed(model):
                pass
        except ModelRunnerError as exc:
            raise not_loaded(exc) from exc

    def _load_s(self, model: Served, begun: float) -> float:
        """Seconds that a request waited for the load of its model."""
        slot = self.pool.slots.get(model.name)
        return 0.0 if slot is None else max(0.0, slot.loaded_at - begun)


async def _answer_to(url: str, body: bytes, api_key: str) -> bytes | None:
    """What a runtime answers to a small request; None where that is an error."""
    kind = [(b"content-type", b"application/json")]
    raw = bytearray()
    async with asked(url, body, kind, api_key=api_key) as reply:
        async for piece in reply.body:
            raw += piece
        return bytes(raw) if reply.status == _OK else None


_OK = 200
_NOTHING = {"role": "assistant", "content": ""}
_MOST_CONVERSATION = 256 * 1024


def _think(
    body: bytearray, fields: Fields, thought: Thought, model: Served, system_at: int | None
) -> Fields:
    """Put a thought into a request; what is left to do with its fields."""
    sent = thought.fields()
    if sent:
        append_fields(body, sent)
    if thought.words is None:
        return fields
    if system_at is not None:
        body[system_at:system_at] = json.dumps(f"{thought.words}\n")[1:-1].encode()
        return fields
    words = thought.words if not model.system else f"{model.system}\n{thought.words}"
    insert_system_prompt(body, fields, words)
    return replace(fields, without_system=())
