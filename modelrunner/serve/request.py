"""The request of a client, read as far as the gateway has to understand it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope

from modelrunner.serve.limits import Limits
from modelrunner.serve.lineup import Served
from modelrunner.serve.refusals import FINAL, RefusalError
from modelrunner.text import sanitize_line
from modelrunner.units import counted

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of one request: several photographs, which JSON makes a third larger."""

_MEDIA = {
    "image_url": "images",
    "input_image": "images",
    "image": "images",
    "input_audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
    "input_video": "video",
}
"""Kinds of content that need a projector, in the words of all APIs."""

_MOST_CONTAINERS = 250_000
_MOST_VALUES = 1_000_000
"""Values of one request: each takes several times its bytes, and time in which nobody is served.

Counted by their marks, those within texts too: a text with so many is longer than any context.
"""

_MAY_HAVE_MEDIA = re.compile(rb'"(?:%s)"' % "|".join(_MEDIA).encode())


class GoneError(Exception):
    """The client went away."""


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request.

    Attributes:
        raw: Its bytes, which are what the runtime gets.
        fields: The JSON object that they are.
    """

    raw: bytes = field(repr=False)
    fields: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, raw: bytes) -> "Body":
        """The body that bytes are.

        Raises:
            RefusalError: They are not a JSON object.
        """
        for marks, most, what in (
            (b"[{", _MOST_CONTAINERS, "lists and objects"),
            (b",", _MOST_VALUES, "values"),
        ):
            if sum(raw.count(mark) for mark in marks) > most:
                message = f"the request has more than {most:,} {what}"
                raise RefusalError(400, message, "request_too_large")
        try:
            value = json.loads(raw)
        except UnicodeDecodeError as exc:
            raise RefusalError(400, "the request is not UTF-8", "invalid_json") from exc
        except json.JSONDecodeError as exc:
            where = f"expected JSON at line {exc.lineno}, column {exc.colno}"
            raise RefusalError(400, f"the request is not JSON: {where}", "invalid_json") from exc
        except (ValueError, RecursionError) as exc:
            why = "too deep" if isinstance(exc, RecursionError) else "a number is too long"
            raise RefusalError(400, f"the request is not JSON: {why}", "invalid_json") from exc
        if not isinstance(value, dict):
            raise RefusalError(400, "the request is not a JSON object", "invalid_json")
        return cls(raw, value)

    @property
    def model(self) -> str | None:
        """The model that is asked for; None where none is named.

        Raises:
            RefusalError: The field is not a string.
        """
        model = self.fields.get("model")
        if model is not None and not isinstance(model, str):
            raise RefusalError(400, "the field `model` is not a string", "invalid_model")
        return model or None

    def check_for(self, model: Served, endpoint: str) -> None:
        """Refuse what would fail in the runtime, or would be ignored there.

        Raises:
            RefusalError: The request asks for such a thing.
        """
        # a flag for the runtime may bring a projector that nobody else knows of
        if model.kind == "chat" and model.spec.mmproj is None and not model.spec.raw_flags:
            kind = self._media()
            if kind is not None:
                raise no_media(model, kind)
        count = self.fields.get("n")
        if endpoint in {"chat/completions", "completions"} and isinstance(count, int):
            slots = model.spec.parallel
            if count > slots:
                raise _unsupported(
                    f"`n` is {count}, and {model.name} answers {counted(slots, 'request')} at a"
                    f" time: ask for fewer, or start the server with --parallel {count}"
                )
        if endpoint == "completions":
            self._check_completions()
        if endpoint == "embeddings":
            self._check_dimensions(model)

    def _check_completions(self) -> None:
        if self.fields.get("echo") is True:
            raise _unsupported("`echo` is not supported: leave it out")
        if self.fields.get("logprobs"):
            raise _unsupported(
                "`logprobs` is not supported for completions: use it with /v1/chat/completions"
            )

    def _check_dimensions(self, model: Served) -> None:
        wanted, length = self.fields.get("dimensions"), model.facts.embedding_length
        if wanted is not None and length is not None and wanted != length:
            raise _unsupported(
                f"`dimensions` is not supported: {model.name} makes vectors of {length} numbers"
            )

    def _media(self) -> str | None:
        """What the messages hold besides text."""
        if not _MAY_HAVE_MEDIA.search(self.raw):
            return None
        for entries in (self.fields.get("messages"), self.fields.get("input")):
            for entry in entries if isinstance(entries, list) else ():
                content = entry.get("content") if isinstance(entry, dict) else None
                for part in [entry, *content] if isinstance(content, list) else [entry]:
                    kind = part.get("type") if isinstance(part, dict) else None
                    if isinstance(kind, str) and kind in _MEDIA:
                        return _MEDIA[kind]
        return None


def _unsupported(message: str) -> RefusalError:
    return RefusalError(400, message, "unsupported_field")


def no_media(model: Served, kind: str) -> RefusalError:
    """The refusal of content that a model has no eyes or ears for."""
    return RefusalError(
        400,
        f"{model.name} does not accept {kind}: it has no projector (mmproj);"
        f" use a model with one, or add it with `modelrunner package --mmproj`",
        "unsupported_content",
        [FINAL],
    )


@dataclass(slots=True)
class Bodies:
    """All bodies that are in memory, read or being read.

    Attributes:
        limits: How many bytes they may have together, and how long each may take.
        held: How many they have.
    """

    limits: Limits
    held: int = 0

    @asynccontextmanager
    async def read(
        self, scope: Scope, receive: Receive, most: int = BODY_LIMIT
    ) -> AsyncIterator[bytes]:
        """The block in which the body of a request is in memory.

        Args:
            scope: The request.
            receive: Where its body comes from.
            most: How many bytes it may have.

        Raises:
            RefusalError: It is too large, or does not come, or there are too many.
            GoneError: The client went away.
        """
        if int(dict(scope["headers"]).get(b"content-length", b"0")) > most:
            raise _too_large(most)
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in _pieces(receive, self.limits):
                size += len(piece)
                self.held += len(piece)
                if size > most:
                    raise _too_large(most)
                if self.held > self.limits.bodies:
                    raise RefusalError(
                        503,
                        "the requests under way are too large together: try again in a few seconds",
                        "overloaded",
                        [(b"retry-after", b"5")],
                    )
                pieces.append(piece)
            raw = b"".join(pieces)
            pieces.clear()
            yield raw
        finally:
            self.held -= size


async def _pieces(receive: Receive, limits: Limits) -> AsyncIterator[bytes]:
    end = _now() + limits.body_s
    more = True
    while more:
        try:
            async with asyncio.timeout_at(min(end, _now() + limits.silence_s)):
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


def shown(text: str) -> str:
    """Foreign text as it may stand in a message."""
    return sanitize_line(text, 200)
