"""What Docker Hub says of repositories, over Hub's own API.

```
GET https://hub.docker.com/v2/namespaces/<namespace>/repositories/<name>/
-> {"full_description": "# SmolLM2 ...", ...}
GET https://hub.docker.com/v2/repositories/<namespace>/?page_size=100&ordering=pull_count
-> {"next": URL, "results": [{"namespace", "name", "description", "pull_count", "star_count"}]}
```

Not the registry's protocol: another host, no login, one answer of at most 2 MiB. A redirect is
followed on the same host only, since nothing else has to be asked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import urlencode, urljoin, urlsplit

from modelrunner.errors import (
    CardNotFoundError,
    ConfigError,
    DeniedError,
    ModelRunnerError,
    RateLimitedError,
    RegistryAnswerError,
)
from modelrunner.net import is_loopback
from modelrunner.oci.reference import DOCKER_HUB, Reference
from modelrunner.registry.http.connections import Response
from modelrunner.registry.http.destinations import origin
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.exchange import Exchange, finishing, read_limited
from modelrunner.registry.http.responses import BODY_LIMIT, error_for, web_page
from modelrunner.registry.http.retry import Backoff
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_json


@dataclass(frozen=True, slots=True)
class DockerHubRepository:
    """What a list says of a repository."""

    name: str
    description: str
    pulls: int
    stars: int


def repositories_in(results: object) -> Iterator[DockerHubRepository]:
    """The repositories on a page; what cannot be understood is passed over."""
    for entry in results if isinstance(results, list) else []:
        match entry:
            case {"namespace": str(namespace), "name": str(name)}:
                about = entry.get("description")
                yield DockerHubRepository(
                    sanitize_line(f"{namespace}/{name}", 255),
                    sanitize_line(about, 500) if isinstance(about, str) else "",
                    _count_in(entry, "pull_count"),
                    _count_in(entry, "star_count"),
                )
            case _:
                pass


def _count_in(entry: Mapping[str, object], key: str) -> int:
    """A number; 0 where there is none."""
    value = entry.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def next_page(here: str, following: object) -> str | None:
    """The page after this one, if it is on the same host."""
    if not isinstance(following, str) or not following:
        return None
    try:
        absolute = urljoin(here, following)
        return absolute if origin(absolute) == origin(here) else None
    except (ValueError, RegistryAnswerError):
        return None


DESCRIPTION_LIMIT = 2 * 1024 * 1024
"""Bytes of an answer; Hub itself takes descriptions of 25,000 characters."""

READ_TIMEOUT_S = 10.0
_PATIENCE = Backoff(attempts=2, longest_retry_after_s=5.0)
"""Somebody is waiting for a page to read: one more try, not minutes."""

PAGE_SIZE = 100
MOST_PAGES = 3
_NAME_PARTS = 2
_STRANGE = "check hub_api in config.toml, and HTTPS_PROXY: another server may answer there"
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class DockerHubApi:
    """Docker Hub's API, or what stands for it.

    Args:
        endpoint: Where it is, see `docker_hub_endpoint`.
        backoff: How patient to be.
        read_timeout_s: Seconds without a byte after which the answer is given up.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        backoff: Backoff = _PATIENCE,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._endpoint = endpoint
        self._backoff = backoff
        self._read_timeout_s = read_timeout_s

    def description(self, reference: Reference) -> str:
        """The Markdown of a repository's page, empty where it has none.

        Raises:
            CardNotFoundError: Hub has no such repository, or can have none.
            DeniedError: It is not public.
            TransferError: It does not answer, or not as it should.
        """
        parts = reference.repository.split("/")
        if reference.registry != DOCKER_HUB or len(parts) != _NAME_PARTS:
            raise CardNotFoundError(f"{reference.short}: not on Docker Hub")
        namespace, name = parts
        url = f"{self._endpoint.base}/v2/namespaces/{namespace}/repositories/{name}/"
        return self._backoff.run(lambda: self._description(url, reference))

    def repositories(self, namespace: str, pages: int = MOST_PAGES) -> list[DockerHubRepository]:
        """The public repositories of a namespace, the most pulled first: one request a page.

        Raises:
            CardNotFoundError: Hub has no such namespace.
            DeniedError: It is not public.
            TransferError: It does not answer, or not as it should.
        """
        query = urlencode({"page_size": PAGE_SIZE, "ordering": "pull_count"})
        url: str | None = f"{self._endpoint.base}/v2/repositories/{namespace}/?{query}"
        found: list[DockerHubRepository] = []
        for _page in range(pages):
            if url is None:
                break
            here = url
            body = self._backoff.run(partial(self._get, here, namespace))
            answer = _object(body, namespace, self._endpoint.label)
            found += repositories_in(answer.get("results"))
            url = next_page(here, answer.get("next"))
        return sorted(found, key=lambda entry: -entry.pulls)

    def _description(self, url: str, reference: Reference) -> str:
        what = reference.short
        return _full_description(self._get(url, what), what, self._endpoint.label)

    def _get(self, url: str, what: str) -> bytes:
        label = self._endpoint.label
        exchange = _SameHost(self._endpoint, lambda: None, read_timeout_s=self._read_timeout_s)
        try:
            response = exchange.send("GET", url, scope="", headers={"Accept": "application/json"})
            with finishing(response):
                if response.status != HTTPStatus.OK:
                    raise _refusal(response, what, label)
                content_type = response.headers.get("Content-Type", "")
                body = read_limited(response, DESCRIPTION_LIMIT, label)
        finally:
            exchange.close()
        if len(body) > DESCRIPTION_LIMIT:
            raise RegistryAnswerError(
                f"{what}: the description from {label} exceeds {DESCRIPTION_LIMIT} bytes",
                hint=_STRANGE,
            )
        if content_type.startswith("text/html") or body[:100].lstrip().startswith(b"<"):
            raise web_page(what, label)
        return body


def docker_hub_endpoint(address: str, *, ca_file: str | None = None) -> Endpoint:
    """Where the API is, from an address in the configuration.

    Raises:
        ConfigError: It is not an address, or one in plain http of another machine.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port  # a property that parses
    except ValueError as exc:
        raise ConfigError(
            f"hub_api: invalid URL {address[:200]!r}",
            hint="the default is https://hub.docker.com; see `modelrunner config`",
        ) from exc
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or parts.query:
        raise ConfigError(
            f"hub_api: invalid URL {address[:200]!r}",
            hint="write https://hub.docker.com, without user and password",
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(
            f"hub_api: {address[:200]} uses plain http",
            hint="write https://; plain http is allowed for this machine only",
        )
    return Endpoint(host, parts.scheme, parts.netloc, parts.path.strip("/"), ca_file=ca_file)


class _SameHost(Exchange):
    """Requests that never leave the host that was asked."""

    def follow_to(self, url: str, target: str) -> str:
        """The address that a `Location` header of `url` means, if it is on the same host.

        Raises:
            RegistryAnswerError: It is not.
        """
        try:
            absolute = urljoin(url, target)
        except ValueError as exc:
            raise RegistryAnswerError(f"{origin(url)[1]} redirects to an invalid URL") from exc
        if origin(absolute) != origin(url):
            host = origin(absolute)[1]
            raise RegistryAnswerError(
                f"{origin(url)[1]} redirects to {host}: not followed",
                hint="check HTTPS_PROXY and NO_PROXY: a proxy or a login page answers instead",
                target=host,
            )
        return absolute


def _refusal(response: Response, what: str, label: str) -> ModelRunnerError:
    status = response.status
    if status == HTTPStatus.NOT_FOUND:
        return CardNotFoundError(f"{what}: {label} has no such repository")
    if status in _DENIED:
        return DeniedError(
            f"{what}: {label} does not show its description",
            hint="for a private repository, read the description on the website",
            status=status,
        )
    body = read_limited(response, BODY_LIMIT, label)
    error = error_for(status, response.headers, body, what=what, registry=label)
    if isinstance(error, RateLimitedError):
        # a login, which raises the registry's limit, changes nothing here
        hint = "try again later: descriptions are kept for a day once they have been read"
        return error.with_hint(hint)
    return error


def _full_description(body: bytes, what: str, label: str) -> str:
    answer = _object(body, what, label)
    if "full_description" not in answer:
        raise RegistryAnswerError(f"{what}: no description in the answer of {label}", hint=_STRANGE)
    text = answer["full_description"]
    if text is not None and not isinstance(text, str):
        raise RegistryAnswerError(f"{what}: invalid description from {label}", hint=_STRANGE)
    return text or ""


def _object(body: bytes, what: str, label: str) -> Mapping[str, object]:
    try:
        answer = parse_json(body)
    except ValueError as exc:
        raise RegistryAnswerError(f"{what}: expected JSON from {label}", hint=_STRANGE) from exc
    if not isinstance(answer, Mapping):
        raise RegistryAnswerError(f"{what}: no description in the answer of {label}", hint=_STRANGE)
    return answer
