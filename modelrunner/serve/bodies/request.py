"""The request of a client, read as far as the gateway has to understand it."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from starlette.types import Receive, Scope

from modelrunner.serve.bodies.additions import append_raw
from modelrunner.serve.bodies.fields import Fields, InvalidBodyError, read
from modelrunner.serve.bodies.parsing import Found, Parser, ParserFailedError, Work
from modelrunner.serve.bodies.stream import BodyStream, streaming
from modelrunner.serve.client.errors import FINAL, RefusalError
from modelrunner.serve.client.limits import Limits
from modelrunner.serve.models import Served
from modelrunner.units import counted
from modelrunner.wire import parse_count

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of one request: several photographs, which JSON makes a third larger."""


_UNSUPPORTED: Mapping[str, Mapping[str, str]] = {
    "completions": {
        "echo": "leave it out",
        "suffix": "use /infill with a model for code",
        "best_of": "leave it out, or use `n`",
    },
    "chat/completions": {
        "functions": "use `tools`",
        "function_call": "use `tool_choice`",
        "web_search_options": "leave it out",
        "audio": "answers are text",
        "modalities": "answers are text",
        "verbosity": "say it in a message",
    },
}
"""What runtimes would pass over, by endpoint, and what to do instead."""


class GoneError(Exception):
    """The client went away."""


def check_for(fields: Fields, model: Served, endpoint: str) -> None:
    """Refuse what would fail in the runtime, or would be ignored there.

    Raises:
        RefusalError: The request asks for such a thing.
    """
    # a flag for the runtime may bring a projector that nobody else knows of
    if (
        fields.media is not None
        and model.kind == "chat"
        and model.spec.mmproj is None
        and not model.spec.raw_flags
    ):
        raise no_media(model, fields.media)
    slots = model.spec.parallel
    if endpoint in {"chat/completions", "completions"} and (fields.count or 0) > slots:
        raise _unsupported(
            f"`n` is {fields.count}, but {model.name} answers {counted(slots, 'request')} at "
            f"a time: use a smaller `n`, or start the server with --parallel {fields.count}"
        )
    for name in fields.unsupported:
        if endpoint in _UNSUPPORTED and name in _UNSUPPORTED[endpoint]:
            instead = _UNSUPPORTED[endpoint][name]
            raise _unsupported(f"`{name}` is not supported: {instead}")
    wanted, length = fields.dimensions, model.facts.embedding_length
    if endpoint == "embeddings" and None not in (wanted, length) and wanted != length:
        raise _unsupported(
            f"`dimensions` is not supported: embeddings of {model.name} have {length} dimensions"
        )


def _unsupported(message: str) -> RefusalError:
    return RefusalError(400, message, "unsupported_field")


def no_media(model: Served, kind: str) -> RefusalError:
    """The refusal of content that a model has no eyes or ears for."""
    if model.spec.mmproj is None:
        why = (
            "it has no projector (mmproj); use a model with one, or add it with "
            "`modelrunner package --mmproj`"
        )
    else:
        why = f"its projector (mmproj) is not for {kind}; use a model with one that is"
    return RefusalError(
        400,
        f"{model.name} does not accept {kind}: {why}",
        "unsupported_content",
        [FINAL],
    )


@dataclass(slots=True)
class Bodies:
    """All bodies that are in memory, read or being read.

    Attributes:
        limits: How many bytes they may have together, and how long each may take.
        parser: What reads them.
        held: How many bytes they have.
        shared: How many of them count against the limit for all.
    """

    limits: Limits
    parser: Parser = field(default_factory=Parser)
    held: int = 0
    shared: int = 0

    async def understand(self, raw: bytearray) -> Fields:
        """Return what matters of a body.

        Args:
            raw: The body; what llama.cpp would refuse in it and others accept is put right.

        Raises:
            RefusalError: It is not a request.
        """
        found, parts = await self.run(read, raw)
        tools, added = [*parts, b"", b""][:2]
        if added:
            append_raw(raw, added)
        return Fields(**found, tools=tools)

    async def run(self, work: Work, *bodies: bytes | bytearray) -> Found:
        """Return what a function finds in bodies.

        Raises:
            RefusalError: One of them is not what it should be.
        """
        try:
            return await self.parser.run(work, *bodies)
        except InvalidBodyError as exc:
            raise refusal_of(exc) from exc
        except ParserFailedError as exc:
            message = "the request could not be read: the log of the server has more"
            raise RefusalError(500, message, "internal_error", [FINAL]) from exc

    @asynccontextmanager
    async def read(
        self, scope: Scope, receive: Receive, most: int = BODY_LIMIT
    ) -> AsyncIterator[bytearray]:
        """The block in which the body of a request is in memory.

        Args:
            scope: The request.
            receive: Where its body comes from.
            most: How many bytes it may have.

        Raises:
            RefusalError: It is too large, or does not come, or there are too many.
            GoneError: The client went away.
        """
        length = parse_count(dict(scope["headers"]).get(b"content-length", b"0").decode("latin-1"))
        if length is None or length > most:
            raise _too_large(most)
        # one buffer: pieces of a byte each would take sixty times theirs
        raw = bytearray()
        size = shared = 0
        try:
            async for piece in _pieces(receive, self.limits.silence_s, self.limits.body_s):
                size += len(piece)
                self.held += len(piece)
                before, shared = shared, max(0, size - self.limits.body)
                self.shared += shared - before
                if size > most:
                    raise _too_large(most)
                if shared and self.shared > self.limits.bodies:
                    raise RefusalError(
                        503,
                        "the requests in progress are too large in total: try again in a "
                        "few seconds",
                        "overloaded",
                        [(b"retry-after", b"5")],
                    )
                raw += piece
            yield raw
        finally:
            self.held -= size
            self.shared -= shared

    def stream(self, receive: Receive) -> AbstractAsyncContextManager[BodyStream]:
        """The block in which a thread reads a body that may be large and take long.

        Its reads raise `RefusalError` where nothing comes for too long, and `GoneError` where the
        client went away.
        """
        return streaming(_pieces(receive, self.limits.silence_s, math.inf))


async def _pieces(receive: Receive, silence_s: float, within_s: float) -> AsyncIterator[bytes]:
    end = _now() + within_s
    more = True
    while more:
        try:
            async with asyncio.timeout_at(min(end, _now() + silence_s)):
                message = await receive()
        except TimeoutError as exc:
            # the connection ends with its deadline for what is left of the body
            raise RefusalError(
                408, "the body of the request did not arrive in time", "timeout"
            ) from exc
        if message["type"] == "http.disconnect":
            raise GoneError
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _too_large(most: int) -> RefusalError:
    mebibyte = 1024 * 1024
    limit = f"{most // mebibyte} MiB" if most >= mebibyte else f"{most // 1024} KiB"
    return RefusalError(413, f"the request has more than {limit}", "request_too_large")


def refusal_of(error: InvalidBodyError) -> RefusalError:
    """The refusal of a body that is not a request."""
    return RefusalError(400, error.message, error.code)
