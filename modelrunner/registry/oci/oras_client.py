"""The client of `oras` over our exchange: what of the protocol is not hot.

`oras` lists tags page by page, looks for blobs and uploads them in chunks; addresses are its
containers'. Every request that it makes goes through `OrasClient.do_request`, and there through
`Exchange`: by itself `oras` verifies nothing, has no time limits, retries for two minutes, and
sends logins to whatever host a registry names. Importing this module imports `oras`, which takes
longer than a pull may: manifests and blobs of a pull are asked for without it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from http import HTTPStatus
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit, urlunsplit

import oras.container
import oras.provider
import requests

from modelrunner.errors import ModelRunnerError, RegistryAnswerError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.exchange import Content, Exchange, finishing, read_limited
from modelrunner.registry.http.responses import next_page
from modelrunner.registry.source import OnSent
from modelrunner.wire import parse_object

_MAX_PAGES = 100
_PAGE = 1000
"""Tags that are asked for at once: the most that Docker's registry allows."""

_MAX_BYTES = 16 * 1024 * 1024
_EXPECTED = {
    "GET": (HTTPStatus.OK,),
    "HEAD": (HTTPStatus.OK, HTTPStatus.NOT_FOUND),
    "POST": (HTTPStatus.ACCEPTED,),
    "PATCH": (HTTPStatus.ACCEPTED,),
    "PUT": (HTTPStatus.CREATED,),
}
CHUNK = 16 * 1024 * 1024
"""Bytes of a chunk: below what proxies usually take, above what registries ask for at least."""

_STREAM = "application/octet-stream"

ErrorOf = Callable[[requests.Response], ModelRunnerError]
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
        self._sent = 0
        self._on_sent: OnSent = _unheard

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

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has the blob."""
        return bool(self.blob_exists({"digest": str(digest)}, self._repository))

    def mount_blob(self, digest: Digest, repository: str) -> bool:
        """Whether the registry has taken the blob over from another of its repositories.

        Whatever else it answers, the blob can be uploaded.
        """
        query = f"?mount={digest}&from={repository}"
        with self._send(self._upload_url() + query, "POST") as response:
            return response.status_code == HTTPStatus.CREATED

    def push_blob(self, descriptor: Descriptor, path: Path, on_sent: OnSent) -> None:
        """Upload a blob in one streamed request.

        `oras` would read all of it into memory first, and drop what has no value from the
        query of the address where it goes.
        """
        begun = self.do_request(self._upload_url(), "POST")
        target = _with_digest(self._get_location(begun, self._repository), descriptor.digest)
        headers = {"Content-Type": _STREAM, "Content-Length": str(descriptor.size)}
        with BufferedReader(_Watched(path, on_sent), buffer_size=1024 * 1024) as reader:
            content: Content = cast("BinaryIO", reader) if descriptor.size else b""
            self.do_request(target, "PUT", content, headers)

    def push_in_chunks(self, descriptor: Descriptor, path: Path, on_sent: OnSent) -> None:
        """Upload a blob in chunks, a request each, where one request for all is refused."""
        self._sent, self._on_sent = 0, on_sent
        layer = {"digest": str(descriptor.digest)}
        self.chunked_upload(str(path), self._repository, layer, chunk_size=CHUNK)

    def push_manifest(self, manifest: Manifest, name: str) -> None:
        """Upload a manifest under a tag or its digest, byte by byte as it is.

        `oras` would write it in its own way, which has another digest, and with one media type.
        """
        url = f"{self.prefix}://{self._repository.manifest_url(name)}"
        self.do_request(url, "PUT", manifest.raw, {"Content-Type": manifest.media_type})

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
        with self._send(url, method, data, headers) as response:
            if response.status_code not in _EXPECTED[method]:
                raise self._error_of(response)
            # of the others, `oras` reads status and headers
            body = (
                read_limited(response, _MAX_BYTES, self._endpoint.label) if method == "GET" else b""
            )
        if method == "PATCH" and isinstance(data, bytes):
            self._sent += len(data)
            self._on_sent(self._sent)
        return self._answer(response, body)

    def _send(
        self,
        url: str,
        method: str,
        data: Content = None,
        headers: dict[str, str] | None = None,
    ) -> AbstractContextManager[requests.Response]:
        return finishing(
            self._exchange.send(
                method,
                self._endpoint.with_namespace(url),
                scope=self._scope,
                headers=headers,
                content=data,
            )
        )

    def _get_location(self, r: Answer, container: Repository) -> str:  # noqa: ARG002
        """Where the bytes go, which is decided as for a redirect."""
        where = r.headers.get("Location")
        if not where:
            label = self._endpoint.label
            raise RegistryAnswerError(f"{label}: the answer does not say where to upload to")
        return self._exchange.follow_to(r.url, where)

    def _upload_url(self) -> str:
        return f"{self.prefix}://{self._repository.upload_blob_url()}"

    def _answer(self, response: requests.Response, body: bytes) -> Answer:
        answer = Answer()
        answer.status_code, answer.reason = response.status_code, response.reason
        answer.url, answer.request = response.url, response.request
        answer.headers, answer.raw = response.headers, BytesIO(body)
        answer.next_page = self._next_page(response)
        return answer

    def _next_page(self, response: requests.Response) -> str | None:
        url = next_page(response, self._endpoint)
        if url is None or url in self._pages or len(self._pages) >= _MAX_PAGES:
            return None
        self._pages.add(url)
        return url


class _Watched(FileIO):
    """A file that tells how far it has been read."""

    def __init__(self, path: Path, on_read: OnSent) -> None:
        super().__init__(path, "rb")
        self._on_read = on_read

    def readinto(self, buffer: "memoryview | bytearray") -> int | None:  # type: ignore[override]
        count = super().readinto(buffer)
        self._on_read(self.tell())
        return count


def _unheard(_sent: int) -> None:
    pass


def _with_digest(url: str, digest: Digest) -> str:
    parts = urlsplit(url)
    query = f"{parts.query}&digest={digest}" if parts.query else f"digest={digest}"
    return urlunsplit(parts._replace(query=query))
