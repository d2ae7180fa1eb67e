"""Who may ask: the right host, no web page from elsewhere, and whoever has the key.

A page from anywhere that the user looks at can send requests to loopback, by its address or by a
name that its owner points there. It cannot choose the headers Host and Origin: those tell.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelrunner.net import host_in, is_loopback
from modelrunner.serve.records import CONTROL
from modelrunner.serve.refusals import RefusalError, refuse

_OPEN = ("/health", "/v1/health")
_ALLOWED = (
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-allow-headers", b"authorization, content-type"),
    (b"access-control-max-age", b"600"),
)


@dataclass(frozen=True, slots=True)
class Door:
    """What is asked for.

    Attributes:
        host: The address that the server listens on.
        api_key: What requests must carry; None for nothing.
        control_key: What requests under `CONTROL` must carry.
        origins: Web pages that may send requests, besides those on loopback.
    """

    host: str
    api_key: str | None = field(repr=False)
    control_key: str = field(repr=False)
    origins: frozenset[str] = frozenset()

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Lets a request in.

        Raises:
            RefusalError: It is not to be answered.
        """
        self._check_host(headers.get(b"host"))
        self._check_origin(headers.get(b"origin"))
        said = headers.get(b"authorization", b"").decode("latin-1")
        if path.startswith(CONTROL):
            if not _carries(said, self.control_key):
                raise RefusalError(404, f"no such address: {path}", "not_found")
            return
        is_open = self.api_key is None or path in _OPEN or method == "OPTIONS"
        if not is_open and not _carries(said, self.api_key or ""):
            raise RefusalError(
                401,
                "the API key is missing or wrong: send it as `Authorization: Bearer KEY`",
                "invalid_api_key",
                [(b"www-authenticate", b"Bearer")],
            )

    def _check_host(self, said: bytes | None) -> None:
        # beyond loopback, names are many, and the key keeps strangers out
        if said is None or not is_loopback(self.host):
            return
        name = host_in(said.decode("latin-1"))
        if name is None or not is_loopback(name):
            raise RefusalError(
                403, "this server is for this machine: ask localhost or 127.0.0.1", "host"
            )

    def _check_origin(self, said: bytes | None) -> None:
        if said is None:
            return
        origin = said.decode("latin-1")
        parts = urlsplit(origin)
        own = parts.scheme in {"http", "https"} and is_loopback(host_in(parts.netloc) or "")
        if not own and origin not in self.origins:
            raise RefusalError(
                403, "web pages of this origin may not ask: `--allow-origin` lets them", "origin"
            )


@dataclass(frozen=True, slots=True)
class Guarded:
    """The application behind the door."""

    app: ASGIApp
    door: Door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        method = scope["method"]
        try:
            self.door.check(method, scope["path"], headers)
        except RefusalError as exc:
            await refuse(send, exc)
            return
        if origin is None:
            await self.app(scope, receive, send)
        elif method == "OPTIONS":
            allowed = [*_of(origin), *_ALLOWED]
            await send({"type": "http.response.start", "status": 204, "headers": allowed})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self.app(scope, receive, _telling(send, origin))


def _telling(send: Send, origin: bytes) -> Send:
    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_of(origin)]
        await send(message)

    return tell


def _of(origin: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]


def _carries(said: str, key: str) -> bool:
    kind, _, value = said.partition(" ")
    given = value.strip().encode("latin-1")
    return kind.lower() == "bearer" and secrets.compare_digest(given, key.encode())
