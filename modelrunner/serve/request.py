"""The request of a client, read as far as the gateway has to understand it."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope

from modelrunner.serve.limits import Limits
from modelrunner.serve.lineup import Served
from modelrunner.serve.refusals import FINAL, RefusalError
from modelrunner.text import sanitize_line

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
        if endpoint == "completions" and self.fields.get("echo") is True:
            raise RefusalError(400, "`echo` is not supported: leave it out", "unsupported_field")

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


def no_media(model: Served, kind: str) -> RefusalError:
    """The refusal of content that a model has no eyes or ears for."""
    return RefusalError(
        400,
        f"{model.name} does not accept {kind}: it has no projector (mmproj);"
        f" use a model with one, or add it with `modelrunner package --mmproj`",
        "unsupported_content",
        [FINAL],
    )


async def read_body(
    scope: Scope, receive: Receive, limits: Limits, most: int = BODY_LIMIT
) -> bytes:
    """The body of a request.

    Args:
        scope: The request.
        receive: Where its body comes from.
        limits: How long it may take.
        most: How many bytes it may have.

    Raises:
        RefusalError: It is too large, or does not come.
        GoneError: The client went away.
    """
    said = dict(scope["headers"]).get(b"content-length", b"0")
    if int(said) > most:
        raise _too_large(most)
    pieces: list[bytes] = []
    size = 0
    end = asyncio.get_running_loop().time() + limits.body_s
    while True:
        try:
            async with asyncio.timeout_at(min(end, _now() + limits.silence_s)):
                message = await receive()
        except TimeoutError as exc:
            raise RefusalError(
                408,
                "the body of the request did not arrive in time",
                "timeout",
                [(b"connection", b"close")],
            ) from exc
        if message["type"] == "http.disconnect":
            raise GoneError
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > most:
            raise _too_large(most)
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _too_large(most: int) -> RefusalError:
    mebibyte = 1024 * 1024
    limit = f"{most // mebibyte} MiB" if most >= mebibyte else f"{most // 1024} KiB"
    return RefusalError(413, f"the request has more than {limit}", "request_too_large")


def shown(text: str) -> str:
    """Foreign text as it may stand in a message."""
    return sanitize_line(text, 200)
