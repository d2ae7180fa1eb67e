"""One small request to another service than a registry, by the rules of registries.

Time limits, proxies, certificates and redirects are judged as everywhere; an answer has a largest
size, and nothing but https leaves this machine.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from modelrunner.errors import ConfigError, InterruptedTransferError, RegistryAnswerError
from modelrunner.net import is_loopback
from modelrunner.registry.http.connections import Response
from modelrunner.registry.http.encodings import as_meant, is_encoded
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.errors import network_errors
from modelrunner.registry.http.exchange import Exchange, finishing
from modelrunner.registry.http.retry import Backoff
from modelrunner.text import sanitize_line

_LIMIT = 1024 * 1024
_PIECE = 64 * 1024


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
        answer_s: Seconds in which an answer has to come, from its first byte on.
    """

    ca_file: str | None
    backoff: Backoff
    answer_s: float = 60.0

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
            return Answer(endpoint.label, found.status, found.headers, self._body(found, endpoint))

    def _body(self, found: Response, endpoint: Endpoint) -> bytes:
        """The whole body; somebody waits for it, so it has to come at once."""
        seconds = min(self.answer_s, self.backoff.remaining_s())
        body, deadline = bytearray(), time.monotonic() + seconds
        with network_errors(endpoint.label):
            while piece := found.raw.read1(_PIECE, decode_content=False):
                body += piece
                if len(body) > _LIMIT:
                    raise RegistryAnswerError(f"{endpoint.label}: the answer is too large")
                if time.monotonic() > deadline:
                    raise InterruptedTransferError(
                        f"{endpoint.label}: the answer takes longer than {seconds:.3g} s"
                    )
        return as_meant(bytes(body), _LIMIT) if is_encoded(found) else bytes(body)

    def _endpoint(self, url: str) -> Endpoint:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            parts = urlsplit("")
        # what stands before the host may be a password
        host = parts.netloc.rpartition("@")[2]
        shown = sanitize_line(f"{parts.scheme}://{host}{parts.path}" if host else url, 200)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError(f"invalid URL of a service {shown!r}", hint="write https://HOST")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ConfigError(f"the service {shown} uses plain http", hint="write https://")
        return Endpoint(parts.netloc, parts.scheme, parts.netloc, ca_file=self.ca_file)
