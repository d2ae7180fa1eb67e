"""Answers to a registry's challenge: Basic, or a bearer token from its token service.

Source: the distribution project's token specification, and RFC 7235 for the header.
"""

import base64
import math
import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from modelrunner.errors import RegistryAnswerError, UnauthorizedError
from modelrunner.frozen import field, frozen
from modelrunner.registry.credentials import Credential
from modelrunner.registry.http.destinations import check_realm, check_redirect
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.responses import error_for
from modelrunner.system.log import Log
from modelrunner.text import mask
from modelrunner.wire import LARGEST

_SCHEME = re.compile(r"\s*(?:,\s*)?([A-Za-z][A-Za-z0-9-]*)(?=\s+[A-Za-z0-9_-]+\s*=|\s*$|\s*,)")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
# what can stand in a header; anything else would be quoted in somebody's complaint about it
_TOKEN = re.compile(r"[\x21-\x7e]+")
_CLIENT_ID = "modelrunner"
_DEFAULT_LIFETIME_S = 60
_EARLY_S = 10
_MOST_SCOPES = 20

_log = Log(__name__)

Form = dict[str, str | list[str]]
Ask = Callable[[str, str, Form, Mapping[str, str]], tuple[int, Mapping[str, str], object]]
"""Sends (method, url, parameters, headers) once, without following redirects; gives status,
headers and the parsed JSON body (or the raw bytes where it is none)."""


@frozen
class Challenge:
    """One way that a registry offers to log in."""

    scheme: str
    parameters: Mapping[str, str]


@frozen
class Token:
    """An Authorization header and when to stop using it (monotonic seconds)."""

    value: str = field(repr=False)
    good_until: float


Headers = dict[str, Token]
"""What is known of one endpoint, by scope: shared by all connections to it."""

_BASIC = "basic"


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Reads a `WWW-Authenticate` header; what cannot be read is passed over."""
    challenges = []
    position = 0
    text = header[:8192]
    while position < len(text):
        match = _SCHEME.match(text, position)
        if match is None:
            break
        position = match.end()
        parameters: dict[str, str] = {}
        while found := _PARAMETER.match(text, position):
            quoted, bare = found[2], found[3]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            parameters[found[1].lower()] = value
            position = found.end()
        challenges.append(Challenge(match[1].lower(), parameters))
    return tuple(challenges)


class Tokens:
    """The Authorization headers for one endpoint; never used for another host."""

    def __init__(
        self,
        endpoint: Endpoint,
        credential: Callable[[], Credential | None],
        ask: Ask,
        known: Headers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._find_credential = credential
        self._ask = ask
        self._clock = clock
        self._known = {} if known is None else known

    def header(self, scope: str) -> str | None:
        """What is known already: a header for this scope that is still good, or None."""
        for key in (scope, _BASIC):
            token = self._known.get(key)
            if token is not None and self._clock() < token.good_until:
                return token.value
        return None

    def answer(self, header: str, scope: str) -> str | None:
        """Answers a challenge; None where there is nothing to answer with.

        Raises:
            RegistryAnswerError: The realm is not the registry's: nothing was sent.
            UnauthorizedError: The token service refuses the login.
        """
        challenges = {entry.scheme: entry.parameters for entry in parse_challenges(header)}
        if "bearer" in challenges:
            credential = self._find_credential()
            if credential is not None and credential.registry_token:
                token = Token(f"Bearer {credential.registry_token}", math.inf)
            else:
                token = self._fetch(challenges["bearer"], scope)
            self._known[scope] = token
            return token.value
        if "basic" in challenges:
            credential = self._find_credential()
            if credential is not None and credential.password:
                header = _basic(credential)
                self._known[_BASIC] = Token(header, math.inf)
                return header
        return None

    def _fetch(self, parameters: Mapping[str, str], scope: str) -> Token:
        realm = parameters.get("realm", "")
        endpoint = self._endpoint
        credential = self._find_credential()
        try:
            check_realm(realm, endpoint.host, plain=endpoint.plain, allowed=endpoint.realms)
        except RegistryAnswerError as exc:
            if credential is not None or not _may_be_asked(realm, endpoint):
                raise
            # nothing secret is sent there, and what comes is for the registry alone
            _log.info("%s: token from %s", endpoint.label, exc.facts.get("realm"))
        query: Form = {"scope": _scopes(scope, parameters.get("scope", ""))}
        if parameters.get("service"):
            query["service"] = parameters["service"]
        status, headers, body = self._request(realm, query, credential)
        if status >= 400:  # noqa: PLR2004
            raise self._refused(status, headers, body, credential)
        return self._read(body)

    def _request(
        self, realm: str, query: Form, credential: Credential | None
    ) -> tuple[int, Mapping[str, str], object]:
        if credential is None:
            return self._ask("GET", realm, query, {})
        if credential.identity_token:
            form: Form = {
                **query,
                # a form has one field of them all, an address one for each
                "scope": scope if isinstance(scope := query["scope"], str) else " ".join(scope),
                "grant_type": "refresh_token",
                "refresh_token": credential.identity_token,
                "client_id": _CLIENT_ID,
            }
            return self._ask("POST", realm, form, {})
        headers = {"Authorization": _basic(credential)}
        return self._ask("GET", realm, {**query, "account": credential.username}, headers)

    def _refused(
        self, status: int, headers: Mapping[str, str], body: object, credential: Credential | None
    ) -> Exception:
        registry = self._endpoint.label
        if status in (401, 403) and credential is not None:
            return UnauthorizedError(
                f"{registry} rejected the stored login",
                hint=f"log in again: `modelrunner login {self._endpoint.account}`",
                registry=registry,
            )
        if status == HTTPStatus.NOT_FOUND:
            # the model may well be there
            return RegistryAnswerError(f"{registry}: its token service was not found")
        raw = body if isinstance(body, bytes) else b""
        return error_for(status, headers, raw, what="the token", registry=registry)

    def _read(self, body: object) -> Token:
        value = None
        if isinstance(body, dict):
            value = body.get("token") or body.get("access_token")
        if not isinstance(body, dict) or not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise RegistryAnswerError(
                f"the token service of {self._endpoint.label} returned no token"
            )
        mask(value)
        lifetime = body.get("expires_in")
        seconds = _DEFAULT_LIFETIME_S
        if isinstance(lifetime, int) and 0 < lifetime <= LARGEST:
            seconds = lifetime
        # a little early: it must live through the request that it is sent with
        return Token(
            f"Bearer {value}", self._clock() + max(1, seconds - min(_EARLY_S, seconds // 4))
        )


def _may_be_asked(realm: str, endpoint: Endpoint) -> bool:
    """Whether an anonymous request may be sent there: the rules of a redirect."""
    try:
        check_redirect(endpoint.base, realm, endpoint.host, resolve=False)
    except RegistryAnswerError:
        return False
    return True


def _scopes(wanted: str, named: str) -> str | list[str]:
    """The scopes of a token: those that the challenge names, and ours.

    A registry whose scopes are none of repositories (Public ECR's is `aws`) gets its own back: its
    token service refuses others.
    """
    ours, theirs = wanted.split(), named.split()[:_MOST_SCOPES]
    if not ours or (theirs and not any(scope.startswith("repository:") for scope in theirs)):
        return named if len(theirs) <= 1 else theirs
    return [*ours, *(scope for scope in theirs if not any(_covers(one, scope) for one in ours))]


def _covers(one: str, other: str) -> bool:
    """Whether a scope allows all that another one does."""
    place, _, actions = one.rpartition(":")
    same, _, fewer = other.rpartition(":")
    return place == same and set(fewer.split(",")) <= set(actions.split(","))


def scope_of(repository: str, actions: str) -> str:
    """The scope of a token, as token services spell it."""
    return f"repository:{repository}:{actions}"


def _basic(credential: Credential) -> str:
    pair = base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
    mask(pair)
    return f"Basic {pair}"
