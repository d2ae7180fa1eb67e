"""One HTTP request to a registry, with our rules: time limits, redirects, logins, our errors.

The redirect loop is ours, since each hop is a decision: another origin gets no Authorization, https
does not become http, and some addresses are not followed at all (see `destinations`). A login is
answered only where the registry itself asks. Trying again is up to the caller.
"""

import math
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

from modelrunner.errors import (
    ConfigError,
    InterruptedTransferError,
    RegistryAnswerError,
    TransferError,
)
from modelrunner.registry.credentials import Credential
from modelrunner.registry.http.connections import Connections, Response
from modelrunner.registry.http.destinations import Reached, check_redirect, origin
from modelrunner.registry.http.direct.pool import Content
from modelrunner.registry.http.encodings import as_meant, is_encoded
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.errors import network_errors
from modelrunner.registry.http.responses import BODY_LIMIT
from modelrunner.registry.http.tokens import Form, Headers, Tokens
from modelrunner.registry.proxies import is_resolved_here
from modelrunner.system.log import Log
from modelrunner.wire import parse_json

CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 30.0
_PROBE_S = 3.0
_PATIENCE_S, _SLOWEST = 60.0, 1024
"""Seconds that any small answer may take, and the bytes a second that more is worth."""

_MAX_REDIRECTS = 8
_REDIRECTS = (301, 302, 303, 307, 308)
_log = Log(__name__)


def _endless() -> float:
    return math.inf


class Exchange:
    """Requests to one endpoint over connections of their own; not to be shared between threads.

    Attributes:
        read_timeout_s: Seconds to wait for each byte, from the next request on.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credential: Callable[[], Credential | None],
        *,
        known: Headers | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
        remaining_s: Callable[[], float] = _endless,
    ) -> None:
        if endpoint.ca_file and not Path(endpoint.ca_file).exists():
            raise ConfigError(
                f"{endpoint.ca_file}: certificate file not found",
                hint="check the path in SSL_CERT_FILE, or in ca_file of config.toml",
                ca_file=endpoint.ca_file,
            )
        self._endpoint = endpoint
        self.read_timeout_s = read_timeout_s
        self._remaining_s = remaining_s
        reached = Reached(endpoint.host, endpoint.realms)
        self._connections = Connections(reached.judge, endpoint.ca_file)
        self._tokens = Tokens(endpoint, credential, self._ask_token, known)

    @property
    def _home(self) -> tuple[str, str, int]:
        return origin(self._endpoint.base)

    def send(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: Content = None,
    ) -> Response:
        """Sends a request and follows where it leads; the body is not read yet.

        Raises:
            TransferError: No answer, or one that may not be followed.
            UnauthorizedError: The token service refuses the login.
        """
        sent = dict(headers or {})
        url = self._endpoint.current(url)
        if origin(url) == self._home:
            known = self._tokens.header(scope)
            if known is not None:
                sent["Authorization"] = known
        response = self._follow(method, url, sent, content)
        challenge = response.headers.get("WWW-Authenticate")
        if (
            response.status != HTTPStatus.UNAUTHORIZED
            or not challenge
            or origin(response.url) != self._home
        ):
            return response
        finish(response)
        answer = self._tokens.answer(challenge, scope)
        if answer is None:
            # no login to answer with: the registry's 401 is the answer
            return response
        return self._follow(
            method, self._endpoint.current(url), {**sent, "Authorization": answer}, content
        )

    def close(self) -> None:
        """Closes idle connections."""
        self._connections.close()

    def _follow(self, method: str, url: str, headers: dict[str, str], content: Content) -> Response:
        for _hop in range(_MAX_REDIRECTS):
            response = self._first(method, url, headers, content)
            url = response.url
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or not target:
                return response
            finish(response)
            if method not in ("GET", "HEAD"):
                raise RegistryAnswerError(
                    f"{self._endpoint.label} redirects a {method} request: not followed"
                )
            url = self.follow_to(url, target)
            if origin(url) != self._home:
                headers.pop("Authorization", None)
        raise RegistryAnswerError(f"{self._endpoint.label}: more than {_MAX_REDIRECTS} redirects")

    def _first(
        self, method: str, url: str, headers: Mapping[str, str], content: Content
    ) -> Response:
        """A request that also finds out what a server on this machine speaks, if that is open."""
        guess = self._endpoint.guess
        if guess is None or guess.settled or origin(url) != self._home:
            return self._once(method, url, headers, content)
        response = None
        try:
            response = self._once(method, url, headers, content)
        except TransferError:
            # to a server of TLS, http is a broken handshake
            if not speaks_tls(url, min(_PROBE_S, self._remaining_s())):
                raise
        if response is not None:
            if not self._asks_for_tls(response, url):
                guess.settled = True
                return response
            finish(response)
        _log.info("%s speaks TLS", self._endpoint.authority)
        guess.scheme, guess.settled = "https", True
        return self._once(method, self._endpoint.current(url), headers, content)

    def _asks_for_tls(self, response: Response, url: str) -> bool:
        """Whether an answer to plain http is that of a server of TLS."""
        target = response.headers.get("Location", "")
        if response.status in _REDIRECTS and target.startswith("https://"):
            own = target.removeprefix("https://").partition("/")[0] == self._endpoint.authority
            return own and speaks_tls(url, min(_PROBE_S, self._remaining_s()))
        return response.status == HTTPStatus.BAD_REQUEST and speaks_tls(
            url, min(_PROBE_S, self._remaining_s())
        )

    def follow_to(self, url: str, target: str) -> str:
        """The address that a `Location` header of `url` means, if it may be followed.

        Raises:
            RegistryAnswerError: It may not.
            RegistryUnavailableError: Its host is not known.
        """
        try:
            absolute = urljoin(url, target)
        except ValueError as exc:
            raise RegistryAnswerError(
                f"{self._endpoint.label} redirects to an invalid URL"
            ) from exc
        here = is_resolved_here(absolute)
        check_redirect(url, absolute, self._endpoint.host, resolve=here)
        return absolute

    def _timeouts(self) -> tuple[float, float]:
        """Seconds to wait for a connection, and for a byte; never longer than there is time."""
        read = min(self.read_timeout_s, self._remaining_s())
        return min(CONNECT_TIMEOUT_S, read), read

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], content: Content
    ) -> Response:
        _log.debug("%s %s", method, url.partition("?")[0])
        with network_errors(self._endpoint.label, answered=False):
            response = self._connections.request(
                method,
                url,
                headers=headers,
                content=content,
                timeouts=self._timeouts(),
                client=self._endpoint.client if origin(url) == self._home else None,
            )
        _log.debug("-> %d", response.status)
        return response

    def _ask_token(
        self, method: str, url: str, parameters: Form, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], object]:
        form = urlencode(parameters, doseq=True)
        content, sent = None, {"Accept": "application/json", **headers}
        if method == "POST":
            content, sent["Content-Type"] = form.encode(), "application/x-www-form-urlencoded"
        elif form:
            url = _with_query(url, form)
        with network_errors(self._endpoint.label, answered=False):
            response = self._connections.request(
                method, url, headers=sent, content=content, timeouts=self._timeouts()
            )
        with response:
            body = read_limited(response, 1024 * 1024, self._endpoint.label)
        if response.status in _REDIRECTS:
            raise RegistryAnswerError(
                f"the token service of {self._endpoint.label} redirects: not followed"
            )
        try:
            return response.status, response.headers, parse_json(body)
        except ValueError:
            return response.status, response.headers, body[:BODY_LIMIT]


def speaks_tls(url: str, timeout_s: float) -> bool:
    """Whether a server answers a TLS handshake; nothing is sent beyond that, and nothing trusted.

    Args:
        url: Its address, whatever the scheme.
        timeout_s: Seconds to wait for it.
    """
    # what is plain and answers as it should is not asked
    import ssl

    _, host, port = origin(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # whom to trust is decided by the request that follows
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLError as exc:
        # it refuses us in the words of TLS
        return "ALERT" in (exc.reason or "")
    except (OSError, ValueError):
        return False


@contextmanager
def finishing(response: Response) -> Iterator[Response]:
    """The block in which an answer is read; one that is read in peace leaves a usable connection.

    The libraries close the connection of an answer that was not read to its end, be that end empty.
    """
    with response:
        yield response
        finish(response)


def finish(response: Response) -> None:
    """Reads what little may be left of an answer, and closes it."""
    left = response.raw.length_remaining
    if left is not None and left <= BODY_LIMIT:
        response.raw.drain_conn()
    response.close()


def read_limited(response: Response, limit: int, label: str) -> bytes:
    """A body up to `limit` bytes and one more, so that the caller sees that there is more.

    Raises:
        TransferError: It broke off, or comes so slowly that a server holds us with it.
    """
    found, begun = bytearray(), monotonic()
    with network_errors(label):
        for chunk in response.raw.stream(64 * 1024, decode_content=False):
            found += chunk
            if len(found) > limit:
                break
            if monotonic() - begun > _PATIENCE_S + len(found) / _SLOWEST:
                raise InterruptedTransferError(f"{label}: the answer comes too slowly")
    body = bytes(found[: limit + 1])
    return as_meant(body, limit) if is_encoded(response) else body


def _with_query(url: str, query: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))
