"""What repositories a registry has: `GET /v2/_catalog`, page by page.

The distribution specification leaves it to registries; many large ones have no such list.
"""

from collections.abc import Iterator
from http import HTTPStatus

from modelrunner.errors import RegistryAnswerError, TransferError
from modelrunner.oci.manifest import MAX_BYTES
from modelrunner.registry.http.exchange import finishing, read_limited
from modelrunner.registry.http.responses import BODY_LIMIT, error_for, next_page
from modelrunner.registry.oci.source import OciRegistry
from modelrunner.wire import parse_object

SCOPE = "registry:catalog:*"
_PAGE = 1000
_MOST_PAGES = 1000
_MOST_REPOSITORIES = 100_000
_NONE = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)


class CatalogSource(OciRegistry):
    """One registry, asked for its repositories. Not to be shared between threads."""

    def repositories(self) -> Iterator[str]:
        """The repositories in the registry's order, each once; a page is asked for when needed.

        Raises:
            RegistryAnswerError: The registry has no such list, or a malformed one.
            AccessError, TransferError: It says no, or nothing.
        """
        url: str | None = f"{self.endpoint.base}/v2/_catalog?n={_PAGE}"
        seen: set[str] = set()
        found: dict[str, None] = {}
        while url is not None and url not in seen and len(seen) < _MOST_PAGES:
            seen.add(url)
            page, url = self._backoff.run(lambda asked=url: self._page(asked))  # type: ignore[misc]
            for name in page:
                if name not in found:
                    found[name] = None
                    yield name
            if len(found) >= _MOST_REPOSITORIES:
                return

    def _page(self, url: str) -> tuple[list[str], str | None]:
        with finishing(self._exchange.send("GET", url, scope=SCOPE)) as response:
            if response.status in _NONE:
                raise RegistryAnswerError(
                    f"{self.name} does not list its repositories",
                    hint="`modelrunner tags REGISTRY/NAME` lists the tags of one that you know",
                    registry=self.name,
                    status=response.status,
                )
            if response.status != HTTPStatus.OK:
                try:
                    body = read_limited(response, BODY_LIMIT, self.name)
                except TransferError:
                    body = b""
                raise error_for(
                    response.status,
                    response.headers,
                    body,
                    what="the list of repositories",
                    registry=self.name,
                )
            raw = read_limited(response, MAX_BYTES, self.name)
            following = next_page(response, self.endpoint)
        try:
            names = parse_object(raw[:MAX_BYTES]).get("repositories") or []
        except ValueError as exc:
            raise RegistryAnswerError(f"{self.name}: malformed list of repositories") from exc
        if not isinstance(names, list):
            raise RegistryAnswerError(f"{self.name}: malformed list of repositories")
        return [name for name in names if isinstance(name, str)], following
