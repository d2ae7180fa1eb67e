"""One small request to another service than a registry, by the rules of registries.

Time limits, proxies, certificates and redirects are judged as everywhere; an answer has a largest
size, and nothing but https leaves this machine.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from modelrunner.errors import ConfigError, RegistryAnswerError
from modelrunner.net import is_loopback
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.exchange import Exchange, finishing, read_limited
from modelrunner.registry.http.retry import Backoff
from modelrunner.text import sanitize_line

_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answers.

    Attributes:
        label: Who it is, for people.
        status: The HTTP status.
        headers: By name, in any case.
        body: The body.
    """

    label: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServiceClient:
    """Sends requests to services.

    Attributes:
        ca_file: A bundle of certificates to trust; None for the usual ones.
        backoff: How much time there is.
    """

    ca_file: str | None
    backoff: Backoff

    def ask(
        self,
        url: str,
        *,
        path: str = "",
        headers: Mapping[str, str],
        content: bytes | None = None,
    ) -> Answer:
        """Send one request: a POST where there is content.

        Args:
            url: Where the service is.
            path: What comes after that.
            headers: Of the request.
            content: What is sent.

        Raises:
            ConfigError: The address is invalid, or plain http to another machine.
            TransferError: No answer, or one that is too large.
        """
        endpoint = self._endpoint(url)
        exchange = Exchange(endpoint, lambda: None, remaining_s=self.backoff.remaining_s)
        method = "GET" if content is None else "POST"
        with (
            closing(exchange),
            finishing(
                exchange.send(method, f"{url}{path}", scope="", headers=headers, content=content)
            ) as found,
        ):
            body = read_limited(found, _LIMIT, endpoint.label)
            if len(body) > _LIMIT:
                raise RegistryAnswerError(f"{endpoint.label}: the answer is too large")
            return Answer(endpoint.label, found.status, found.headers, body)

    def _endpoint(self, url: str) -> Endpoint:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            parts = urlsplit("")
        shown = sanitize_line(url.partition("?")[0], 200)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError(f"invalid URL of a service {shown!r}", hint="write https://HOST")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ConfigError(f"the service {shown} uses plain http", hint="write https://")
        return Endpoint(parts.netloc, parts.scheme, parts.netloc, ca_file=self.ca_file)
