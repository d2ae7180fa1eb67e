"""A request as it arrives: its address in one form, its headers within limits, an ID of its own."""

import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelrunner.serve.client.dialects import dialect_of
from modelrunner.serve.client.errors import RefusalError, refuse

HEADERS_LIMIT = 64 * 1024
"""Bytes of all headers of a request."""

_SLASHES = re.compile("/{2,}")
_ABSOLUTE = re.compile("https?://", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_LINE = len(b": \r\n")


@dataclass(frozen=True, slots=True)
class Arrival:
    """The application behind the entrance: every request passes here first."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            scope = _normalized(scope)
        except ValueError:
            await refuse(scope, send, RefusalError(400, "invalid address", "invalid_address"))
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        known = given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}".encode()
        scope["state"] = {**scope.get("state", {}), "request_id": known.decode()}
        names = dialect_of(scope).request_id_headers

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name, known) for name in names]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        size = sum(len(name) + len(value) + _LINE for name, value in scope["headers"])
        if size > HEADERS_LIMIT:
            limit = HEADERS_LIMIT // 1024
            await refuse(
                scope,
                identified,
                RefusalError(431, f"the headers have more than {limit} KiB", "headers_too_large"),
            )
            return
        await self.app(scope, receive, identified)


def _normalized(scope: Scope) -> Scope:
    """The request with its address in one form.

    The absolute form (`GET http://HOST/v1/models`), in which a proxy is asked, names the host that
    counts. Double slashes and one at the end come of base URLs that are put together by hand.
    """
    path: str = scope["path"]
    headers = scope["headers"]
    if _ABSOLUTE.match(path):
        parts = urlsplit(path)
        path = parts.path
        headers = [(b"host", parts.netloc.encode("latin-1", "replace"))] + [
            pair for pair in headers if pair[0] != b"host"
        ]
    path = _SLASHES.sub("/", f"/{path}")
    if len(path) > 1:
        path = path.removesuffix("/")
    return {**scope, "path": path, "raw_path": path.encode(), "headers": headers}
