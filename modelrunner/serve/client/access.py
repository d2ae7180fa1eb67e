"""Who may ask: the right host, no web page from elsewhere, and a client with the key.

A page from anywhere that the user looks at can send requests to loopback, by its address or by a
name that its owner points there. It cannot choose the headers Host and Origin: those are checked.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelrunner.net import host_in, is_loopback
from modelrunner.serve.client.errors import RefusalError, refuse
from modelrunner.serve.client.keys import ApiKeys, carried, carries
from modelrunner.serve.process.records import CONTROL
from modelrunner.text import sanitize_line

OPEN = ("/health", "/v1/health")
"""Addresses that are answered without a key, and however many requests are under way."""

CONTAINER_HOSTS = frozenset(
    {"host.docker.internal", "host.containers.internal", "model-runner.docker.internal"}
)
"""Names by which containers reach this machine; nobody can point them elsewhere from outside."""

ANY_ORIGIN = "*"
_ALWAYS_ALLOWED = b"authorization, content-type, x-api-key"
_HEADER_NAMES = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z, \t]{1,4096}")
_EXPOSED = b"request-id, retry-after, www-authenticate, x-request-id, x-should-retry"
_VARY = (b"vary", b"Origin")
_OF_PROXIES = frozenset({b"forwarded", b"via", b"x-real-ip"})

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """What is asked for.

    Attributes:
        host: The address that the server listens on.
        keys: What requests must carry, one of them; empty for nothing.
        control_key: What requests under `CONTROL` must carry, and what lets every other one in.
        origins: Web pages that may send requests, besides those on loopback: `https://a.example`,
            `app://*` for every host of a scheme, or `*`.
        hosts: Names by which a server on loopback may be asked, besides those of this machine.
        files: Addresses of files that are everybody's, and need no key.
    """

    host: str
    keys: ApiKeys
    control_key: str = field(repr=False)
    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    files: Container[str] = frozenset()

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> str:
        """Let a request in, and return the name of its key: empty if it has none or needs none.

        Raises:
            RefusalError: It is not to be answered.
        """
        self._check_host(headers.get(b"host"))
        origin = headers.get(b"origin")
        if origin is not None and not self.allows(origin):
            shown = sanitize_line(origin.decode("latin-1"), 100)
            raise RefusalError(
                403,
                f"pages of the origin {shown} are not allowed:"
                f" start the server with `--allow-origin {shown}` to allow them",
                "origin",
            )
        given = carried(headers)
        controls = carries(given, self.control_key)
        if path.startswith(CONTROL):
            if not controls:
                raise RefusalError(404, f"not found: {path}", "not_found")
            return ""
        key = self.keys.find(given)
        if key is not None:
            return key.name
        if controls or not self.keys or path in OPEN or method == "OPTIONS":
            return ""
        if method == "GET" and path in self.files:
            return ""
        raise RefusalError(
            401,
            "the API key is missing or wrong: send it as `Authorization: Bearer KEY`"
            " or `x-api-key: KEY`",
            "invalid_api_key",
            [(b"www-authenticate", b"Bearer")],
        )

    def check_change(self, peer: str, headers: Mapping[bytes, bytes]) -> None:
        """Let a request change the local store, or have something downloaded.

        Programs of this machine may. Other machines and web pages need the control key: models
        can be deleted and the disk can be filled. A page needs none where `--allow-origin` names
        it; `*` names none.

        Args:
            peer: The address that the connection comes from.
            headers: Of the request, which `check` has let in.

        Raises:
            RefusalError: It may not: 403.
        """
        if carries(carried(headers), self.control_key):
            return
        origin = headers.get(b"origin")
        if origin is not None and not self._names(origin):
            shown = sanitize_line(origin.decode("latin-1"), 100)
            raise _no_change(
                f"pages of the origin {shown} cannot change the local store",
                f"start the server with `--allow-origin {shown}`",
            )
        if origin is None and headers.get(b"sec-fetch-site", b"none") != b"none":
            raise _no_change("web pages cannot change the local store", "use a program")
        if not is_loopback(peer) or self._is_passed_on(headers):
            raise _no_change(
                "other machines cannot change the local store", "ask from the machine of the server"
            )

    def _is_passed_on(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a proxy on this machine asks for somebody else."""
        if any(name in _OF_PROXIES or name.startswith(b"x-forwarded-") for name in headers):
            return True
        name = host_in(headers.get(b"host", b"").decode("latin-1"))
        return name is not None and name in self.hosts

    def _names(self, origin: bytes) -> bool:
        """Whether an option names the pages of an origin, by itself or by their scheme."""
        said = origin.decode("latin-1")
        scheme, mark, _rest = said.partition("://")
        return said in self.origins or (bool(mark) and f"{scheme}://*" in self.origins)

    def allows(self, origin: bytes) -> bool:
        """Whether pages of an origin may send requests."""
        if ANY_ORIGIN in self.origins or self._names(origin):
            return True
        scheme, _, rest = origin.decode("latin-1").partition("://")
        name = host_in(rest) if scheme in {"http", "https"} else None
        return name is not None and (is_loopback(name) or name in self.hosts)

    def _check_host(self, said: bytes | None) -> None:
        # beyond loopback, names are many, and the key keeps strangers out
        if said is None or not is_loopback(self.host):
            return
        name = host_in(said.decode("latin-1"))
        if name is not None and (is_loopback(name) or name in CONTAINER_HOSTS | self.hosts):
            return
        shown = sanitize_line(name or "", 100)
        allow = f", or start the server with `--allow-host {shown}`" if shown else ""
        raise RefusalError(
            403, f"the host {shown!r} is not allowed: use localhost or 127.0.0.1{allow}", "host"
        )


@dataclass(frozen=True, slots=True)
class AccessMiddleware:
    """The application, for whom the policy lets in."""

    app: ASGIApp
    policy: AccessPolicy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is not None and self.policy.allows(origin):
            # a page can read a refusal only if that carries the headers too
            send = _with_headers(send, _of(origin))
        try:
            key = self.policy.check(scope["method"], scope["path"], headers)
        except RefusalError as exc:
            await refuse(scope, send, exc)
            return
        # a dictionary of this request's own, see `Arrival`
        scope.setdefault("state", {})["key"] = key
        if origin is not None and scope["method"] == "OPTIONS":
            await send(
                {"type": "http.response.start", "status": 204, "headers": _preflight(headers)}
            )
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, receive, send)


def _preflight(headers: Mapping[bytes, bytes]) -> Headers:
    """What a page of an allowed origin may send: whatever it wants to.

    Clients' own headers are many and new ones come with every release; what a page may do does not
    depend on them.
    """
    asked = headers.get(b"access-control-request-headers", b"")
    private = headers.get(b"access-control-request-private-network") == b"true"
    return [
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        (
            b"access-control-allow-headers",
            asked if _HEADER_NAMES.fullmatch(asked) else _ALWAYS_ALLOWED,
        ),
        (b"access-control-max-age", b"600"),
        (b"vary", b"Access-Control-Request-Headers"),
        # a page of the internet that asks loopback: browsers want it said
        *([(b"access-control-allow-private-network", b"true")] if private else ()),
    ]


def _with_headers(send: Send, more: Headers) -> Send:
    async def extended(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return extended


def _of(origin: bytes) -> Headers:
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        _VARY,
    ]


def _no_change(message: str, way: str) -> RefusalError:
    return RefusalError(
        403, f"{message}: {way}, or send the control key (`serve --control-key`)", "not_allowed"
    )
