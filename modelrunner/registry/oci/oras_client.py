"""The client of `oras` over our exchange: what of the protocol is not hot.

`oras` lists tags page by page; addresses are its containers'. Every request that it makes goes
through `OrasClient.do_request`, and there through `Exchange`: by itself `oras` verifies nothing,
has no time limits, retries for two minutes, and sends logins to whatever host a registry names.
Importing this module imports `oras`, which takes longer than a small pull or push: both do without.
"""

from collections.abc import Callable
from http import HTTPStatus
from io import BytesIO
from typing import Any

import oras.container
import oras.provider
import requests

from modelrunner.errors import ModelRunnerError, RegistryAnswerError
from modelrunner.registry.http.connections import Response
from modelrunner.registry.http.direct.pool import Content
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.exchange import Exchange, finishing, read_limited
from modelrunner.registry.http.responses import next_page
from modelrunner.wire import parse_object

_MAX_PAGES = 100
_PAGE = 1000
"""Tags that are asked for at once: the most that Docker's registry allows."""

_MAX_BYTES = 16 * 1024 * 1024
ErrorOf = Callable[[Response], ModelRunnerError]
"""The error that an unexpected answer stands for."""


class Repository(oras.container.Container):  # type: ignore[misc]  # oras has no types
    """A repository at an endpoint, as the addresses of `oras` need it.

    Its own parser takes `my.org/model` for a model on a registry, so nothing is parsed here.
    """

    def __init__(self, endpoint: Endpoint, repository: str) -> None:
        self.registry = endpoint.base.partition("://")[2]
        self.namespace, _, self.repository = repository.rpartition("/")
        self.tag = self.digest = None

    def tags_url(self, N: int | None = None) -> str:  # noqa: N803 - the name that oras gives it
        """The address of the tag list, in pages as long as registries allow."""
        url: str = super().tags_url(N or _PAGE)
        return url


class Answer(requests.Response):
    """An answer that was read, within limits; `next_page` is where the list goes on, if it does."""

    next_page: str | None = None

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """The link to the next page: absolute, and none to another server."""
        return {"next": {"url": self.next_page}} if self.next_page else {}

    def json(self, **_options: Any) -> dict[str, Any]:  # noqa: ANN401 - as requests has it
        """The body as an object; of a list of tags what can be one.

        Raises:
            ValueError: It is not an object of JSON, or one that nests too deep.
        """
        value = parse_object(self.content)
        tags = value.get("tags")
        found = tags if isinstance(tags, list) else []
        return {**value, "tags": [tag for tag in found if isinstance(tag, str)]}


class OrasClient(oras.provider.Registry):  # type: ignore[misc]  # oras has no types
    """One operation on a repository of a registry.

    Args:
        exchange: What sends its requests.
        endpoint: Where the registry is.
        repository: The repository there.
        scope: The rights that are asked for.
        error_of: See `ErrorOf`.
    """

    def __init__(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        repository: str,
        *,
        scope: str,
        error_of: ErrorOf,
    ) -> None:
        super().__init__(endpoint.authority, insecure=endpoint.plain)
        self._exchange = exchange
        self._endpoint = endpoint
        self._scope = scope
        self._error_of = error_of
        self._repository = Repository(endpoint, repository)
        self._pages: set[str] = set()

    def tags(self) -> tuple[str, ...]:
        """All tags, in the registry's order.

        Raises:
            ModelRunnerError: The registry says no, or nothing that is a list.
        """
        try:
            found: list[str] = self.get_tags(self._repository)
        except ValueError as exc:
            raise RegistryAnswerError(f"{self._endpoint.label}: malformed tag list") from exc
        return tuple(dict.fromkeys(found))

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: Content = None,
        headers: dict[str, str] | None = None,
        json: None = None,  # noqa: ARG002
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002
    ) -> Answer:
        """Send a request through our exchange; every request of `oras` comes here.

        Raises:
            ModelRunnerError: No answer, or not one that is expected of such a request.
        """
        asked = self._exchange.send(
            method,
            self._endpoint.with_namespace(url),
            scope=self._scope,
            headers=headers,
            content=data,
        )
        with finishing(asked) as response:
            if response.status != HTTPStatus.OK:
                raise self._error_of(response)
            body = read_limited(response, _MAX_BYTES, self._endpoint.label)
        return self._answer(response, body)

    def _answer(self, response: Response, body: bytes) -> Answer:
        answer = Answer()
        answer.status_code, answer.url, answer.raw = response.status, response.url, BytesIO(body)
        answer.next_page = self._next_page(response)
        return answer

    def _next_page(self, response: Response) -> str | None:
        url = next_page(response, self._endpoint)
        if url is None or url in self._pages or len(self._pages) >= _MAX_PAGES:
            return None
        self._pages.add(url)
        return url
