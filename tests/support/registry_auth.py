"""Who may do what: nobody asked, HTTP Basic, or the token exchange of Docker Hub.

The exchange: 401 with `WWW-Authenticate: Bearer realm=…,service=…,scope=…`; the client fetches a
token at the realm, with its credentials or without; the token says what it grants. As at the Hub,
a token for a repository that is unknown or closed to the caller is issued all the same, grants
nothing, and is refused with `insufficient_scope`.
"""

import base64
import binascii
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs

from tests.support.registry_messages import Reply, Request, error, json_reply
from tests.support.registry_server import Origin

_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}
_SCOPES = {"pull": "pull", "push": "pull,push", "delete": "delete"}


class OpenDoor:
    """No authentication."""

    def refuse(self, request: Request) -> Reply | None:
        """The refusal, or None where the request may pass."""
        return None

    def permits(self, request: Request, repository: str, action: str) -> bool:
        return self.refuse(request) is None


class BasicAuth(OpenDoor):
    """One user and a password, with every request."""

    def __init__(self, user: str, password: str) -> None:
        self._pair = (user, password)

    def refuse(self, request: Request) -> Reply | None:
        if basic_credentials(request) == self._pair:
            return None
        headers = {"WWW-Authenticate": 'Basic realm="support registry"'}
        return error(401, "UNAUTHORIZED", "authentication required", headers=headers)


@dataclass(frozen=True, slots=True)
class Token:
    """What was granted: (repository, action) pairs, until a time on the monotonic clock."""

    grants: frozenset[tuple[str, str]]
    deadline: float


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """Who is who, and how tokens look."""

    users: Mapping[str, str]
    identity_tokens: Mapping[str, str]
    """Refresh tokens and whose they are."""
    private: Collection[str]
    expires_in: float
    service: str
    fields: tuple[str, ...]
    """The names under which the answer carries the token: `token`, `access_token` or both."""
    denies: bool = False
    """Whether there is no token where nothing could be granted, instead of an empty one."""


class TokenAuth(OpenDoor):
    """The token exchange, both ends of it."""

    def __init__(
        self, policy: TokenPolicy, realm: Callable[[], str], exists: Callable[[str], bool]
    ) -> None:
        self.policy = policy
        self._realm = realm
        self._exists = exists
        self._tokens: dict[str, Token] = {}
        self._refresh: dict[str, str] = dict(policy.identity_tokens)

    def expire(self) -> None:
        """Take back every token issued so far."""
        for value, token in list(self._tokens.items()):
            self._tokens[value] = Token(token.grants, 0)

    def refuse(self, request: Request) -> Reply | None:
        action = _ACTIONS.get(request.method, "push")
        token = self._token_of(request)
        if token is None:
            problem = "invalid_token" if bearer_token(request) else ""
            return self._challenge(request, action, problem)
        if request.kind == "ping" or (request.repository, action) in token.grants:
            return None
        return self._challenge(request, action, "insufficient_scope")

    def permits(self, request: Request, repository: str, action: str) -> bool:
        token = self._token_of(request)
        return token is not None and (repository, action) in token.grants

    def issue(self, request: Request) -> Reply:
        """Answer at the realm: GET, or POST as in OAuth 2."""
        if request.method == "POST":
            form = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
            user, known = self._user_of_form(form)
            scopes = form.get("scope", "").split()
        else:
            form = {}
            user, known = self._user_of_header(request)
            scopes = [
                word for text in request.query_lists.get("scope", []) for word in text.split()
            ]
        if not known:
            return json_reply(401, {"details": "incorrect username or password"})
        granted = [self._granted(user, scope) for scope in scopes]
        if self.policy.denies and scopes and not any(granted):
            return error(403, "DENIED", "requested access to the resource is denied")
        return json_reply(200, self._token_document(user, scopes, form))

    def _token_document(
        self, user: str | None, scopes: list[str], form: dict[str, str]
    ) -> dict[str, object]:
        value = secrets.token_urlsafe(32)
        grants = frozenset(pair for scope in scopes for pair in self._granted(user, scope))
        self._tokens[value] = Token(grants, time.monotonic() + self.policy.expires_in)
        document: dict[str, object] = dict.fromkeys(self.policy.fields, value)
        document |= {
            "expires_in": int(self.policy.expires_in),
            "issued_at": datetime.now(UTC).isoformat(),
            "scope": " ".join(scopes),
        }
        if user is not None and form.get("access_type") == "offline":
            document["refresh_token"] = secrets.token_urlsafe(32)
            self._refresh[str(document["refresh_token"])] = user
        return document

    def _granted(self, user: str | None, scope: str) -> set[tuple[str, str]]:
        kind, _, rest = scope.partition(":")
        repository, _, actions = rest.rpartition(":")
        if kind != "repository":
            return set()
        asked = set(actions.split(","))
        if user is None:
            public = self._exists(repository) and repository not in self.policy.private
            asked &= {"pull"} if public else set()
        return {(repository, action) for action in asked}

    def _user_of_header(self, request: Request) -> tuple[str | None, bool]:
        if request.authorization is None:
            return None, True
        user, password = basic_credentials(request) or ("", "")
        return user, self._is_user(user, password)

    def _user_of_form(self, form: dict[str, str]) -> tuple[str | None, bool]:
        if form.get("grant_type") == "refresh_token":
            user = self._refresh.get(form.get("refresh_token", ""))
            return user, user is not None
        user = form.get("username", "")
        return user, self._is_user(user, form.get("password", ""))

    def _is_user(self, user: str, password: str) -> bool:
        return user in self.policy.users and self.policy.users[user] == password

    def _token_of(self, request: Request) -> Token | None:
        token = self._tokens.get(bearer_token(request) or "")
        return token if token and time.monotonic() < token.deadline else None

    def _challenge(self, request: Request, action: str, problem: str) -> Reply:
        parts = {"realm": self._realm(), "service": self.policy.service}
        if request.repository:
            parts["scope"] = f"repository:{request.repository}:{_SCOPES[action]}"
        if problem:
            parts["error"] = problem
        challenge = "Bearer " + ",".join(f'{name}="{value}"' for name, value in parts.items())
        wanted = {"Type": "repository", "Class": "", "Name": request.repository, "Action": action}
        detail = [wanted] if request.repository else None
        headers = {"WWW-Authenticate": challenge}
        return error(401, "UNAUTHORIZED", "authentication required", detail, headers)


class TokenServer(Origin):
    """A token endpoint on a host of its own, as the Hub's is: `demand_token(realm=server)`."""

    def __init__(self, *, host: str = "127.0.0.1", tls: bool = False) -> None:
        super().__init__(host=host, tls=tls)
        self.auth: TokenAuth | None = None

    def classify(self, request: Request) -> None:
        request.kind = "token" if request.path == "/token" else "other"

    def respond(self, request: Request) -> Reply:
        if request.kind == "token" and self.auth is not None:
            return self.auth.issue(request)
        return Reply(404)


def bearer_token(request: Request) -> str | None:
    scheme, _, value = (request.authorization or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def basic_credentials(request: Request) -> tuple[str, str] | None:
    """The user and password of the request, if it carries any."""
    scheme, _, value = (request.authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user, password
