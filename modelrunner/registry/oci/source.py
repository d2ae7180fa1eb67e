"""An OCI registry as a source: manifests and blobs, over our exchange.

Tags are listed by the client of `oras`, over the same exchange: see `oras_client`.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING

from modelrunner.errors import (
    DigestMismatchError,
    MalformedManifestError,
    ManifestNotFoundError,
    ModelRunnerError,
    RegistryAnswerError,
    TransferError,
)
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest, parse_manifest
from modelrunner.oci.reference import DEFAULT_TAG, Reference
from modelrunner.registry.credentials import Credential, Credentials
from modelrunner.registry.helpers import PATIENCE_S
from modelrunner.registry.http.blob_stream import blob_stream, range_header
from modelrunner.registry.http.connections import Response
from modelrunner.registry.http.destinations import origin
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.exchange import (
    READ_TIMEOUT_S,
    Exchange,
    finishing,
    read_limited,
)
from modelrunner.registry.http.responses import BODY_LIMIT, error_for, is_web_page, web_page
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.http.tokens import Headers, scope_of
from modelrunner.registry.source import BlobStream
from modelrunner.wire import parse_count

if TYPE_CHECKING:
    from modelrunner.registry.oci.oras_client import OrasClient

_ACCEPT = ", ".join((*media_types.MANIFESTS, *media_types.INDEXES))
_NO_REGISTRY = (
    "check the host and the port, and HTTPS_PROXY and NO_PROXY: a proxy or a login page may "
    "answer instead"
)


class OciRegistry:
    """One endpoint of a registry. Not to be shared between threads."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        *,
        backoff: Backoff | None = None,
        known: Headers | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self.endpoint = endpoint
        self._credentials = credentials
        self._backoff = backoff or Backoff()
        self._known = known
        self._read_timeout_s = read_timeout_s

    @property
    def name(self) -> str:
        """The registry's name, or the mirror's address."""
        return self.endpoint.label

    def resolve(self, reference: Reference) -> Digest:
        """What the reference stands for; a pinned one needs no request.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: The registry says no, or nothing.
        """
        if reference.digest is not None:
            return reference.digest
        return self._backoff.run(lambda: self._head(reference))

    def manifest(self, reference: Reference) -> Manifest | Index:
        """The manifest, verified against the digest that was asked for.

        Raises:
            DigestMismatchError: The bytes are not what was asked for.
            MalformedManifestError: Too large, or no manifest.
            ManifestNotFoundError, AccessError, TransferError: As with `resolve`.
        """
        return self._backoff.run(lambda: self._get_manifest(reference))

    @contextmanager
    def open_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,
    ) -> Iterator[BlobStream]:
        """A stream of a blob's bytes from `offset` to `stop`, not retried here.

        The address is asked of the registry again each time: a CDN's signed ones expire.

        Raises:
            RangesUnsupportedError: A part was asked for, and something else came.
            TransferError: The registry or what it redirects to does not deliver.
            SizeMismatchError: The blob is announced with another size.
        """
        what = f"{reference.short}: blob {descriptor.digest.short}"
        url = self._url(reference, "blobs", str(descriptor.digest))
        part = (offset, stop)
        headers = range_header(part, descriptor.size)
        with self._request("GET", url, reference, headers) as response:
            yield blob_stream(
                response,
                part,
                descriptor,
                what=what,
                endpoint=self.endpoint,
                refusal=lambda: self._blob_error(response, what),
            )

    def blob_size(self, reference: Reference, digest: Digest) -> int:
        """The bytes of a blob of the repository.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: As with `resolve`.
        """
        return self._backoff.run(lambda: self._blob_size(reference, digest))

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """All tags of the repository, in the registry's order.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: As with `resolve`.
        """
        return self._backoff.run(lambda: self._client(reference, reference.name).tags())

    def ping(self) -> bool:
        """Make sure that a registry is there, and takes the login.

        A registry answers its version check with success, by itself and not with a web page.

        Returns:
            Whether it has asked for the login.

        Raises:
            UnauthorizedError, DeniedError: The registry or its token service refuses the login.
            TransferError: No answer, or not that of a registry.
        """
        url = f"{self.endpoint.base}/v2/"
        with self._exchange.send("GET", url, scope="") as response:
            status, where = response.status, response.url
            body = read_limited(response, BODY_LIMIT, self.name)
        if origin(where) != origin(self.endpoint.base):
            raise RegistryAnswerError(
                f"{self.name} is not a registry: /v2/ redirects to {origin(where)[1]}",
                hint=_NO_REGISTRY,
            )
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or (
            status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            raise error_for(status, response.headers, body, what="/v2/", registry=self.name)
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            error = error_for(status, response.headers, body, what="/v2/", registry=self.name)
            raise RegistryAnswerError(
                f"{self.name} is not a registry, or does not answer as one: {error.message}",
                hint=_NO_REGISTRY,
                status=status,
            )
        if is_web_page(response.headers, body):
            raise RegistryAnswerError(
                f"{self.name} is not a registry: /v2/ is a web page", hint=_NO_REGISTRY
            )
        return "Authorization" in response.sent

    def distrust(self, places: Mapping[str, int]) -> None:
        """There is no other place to go to."""

    def close(self) -> None:
        """Lets go of the connections; the next request makes new ones."""
        if "_exchange" in self.__dict__:
            self._exchange.close()

    def _head(self, reference: Reference) -> Digest:
        url = self._url(reference, "manifests", reference.tag or DEFAULT_TAG)
        with self._send("HEAD", url, reference, headers={"Accept": _ACCEPT}) as response:
            said = _said_digest(response)
            if response.status == HTTPStatus.OK and said:
                return Digest.parse(said)
            if response.status == HTTPStatus.TOO_MANY_REQUESTS:
                raise self._error(response, reference.short)
        # no digest, or a HEAD without a body to say why: GET tells
        return _digest_of(self._get_manifest(reference))

    def _blob_size(self, reference: Reference, digest: Digest) -> int:
        what = f"{reference.short}: blob {digest.short}"
        url = self._url(reference, "blobs", str(digest))
        with self._send("HEAD", url, reference) as response:
            self._expect(response, {HTTPStatus.OK}, what)
            said = response.headers.get("Content-Length", "")
        size = parse_count(said.strip())
        if size is None:
            raise RegistryAnswerError(f"{what}: {self.name} does not say its size")
        return size

    def _get_manifest(self, reference: Reference) -> Manifest | Index:
        wanted = reference.digest
        name = str(wanted) if wanted else reference.tag or DEFAULT_TAG
        url = self._url(reference, "manifests", name)
        with self._send("GET", url, reference, headers={"Accept": _ACCEPT}) as response:
            missing: ModelRunnerError | None = None
            content_type, raw, said = "", b"", None
            if wanted is not None and response.status == HTTPStatus.NOT_FOUND:
                missing = self._error(response, reference.short)
            else:
                self._expect(response, {HTTPStatus.OK}, reference.short)
                content_type = response.headers.get("Content-Type", "")
                if content_type.startswith("text/html"):
                    raise web_page(reference.short, self.name)
                raw = self._manifest_body(response, reference)
                said = response.headers.get("Docker-Content-Digest")
        if wanted is not None and missing is not None:
            return self._manifest_among_blobs(reference, wanted, missing)
        got = Digest.of(raw)
        for expected in (wanted, Digest.parse(said) if said else None):
            if expected is not None and got != expected:
                raise DigestMismatchError(
                    f"{reference.short}: the manifest should be {expected}, got {got}",
                    hint=(
                        f"{self.name} sent different content than the digest names; nothing was "
                        "stored; try again, or pull from another registry"
                    ),
                    expected=str(expected),
                    got=str(got),
                )
        return parse_manifest(raw, content_type)

    def _manifest_among_blobs(
        self, reference: Reference, wanted: Digest, missing: ModelRunnerError
    ) -> Manifest | Index:
        """The manifest as a blob: Ollama's registry has them by their digest so, and only so.

        Raises:
            ModelRunnerError: `missing`, where there is no such blob either.
        """
        url = self._url(reference, "blobs", str(wanted))
        with self._send("GET", url, reference) as response:
            if response.status != HTTPStatus.OK:
                raise missing
            raw = self._manifest_body(response, reference)
        if Digest.of(raw) != wanted:
            raise missing
        return parse_manifest(raw)

    def _manifest_body(self, response: Response, reference: Reference) -> bytes:
        raw = read_limited(response, MAX_BYTES, self.name)
        if len(raw) > MAX_BYTES:
            raise MalformedManifestError(
                f"{reference.short}: the manifest exceeds {MAX_BYTES} bytes",
                hint="check the name and the proxy: the registry or a proxy sends something else",
            )
        return raw

    def _send(
        self, method: str, url: str, reference: Reference, headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Response]:
        return finishing(self._request(method, url, reference, headers))

    def _request(
        self, method: str, url: str, reference: Reference, headers: Mapping[str, str] | None
    ) -> Response:
        return self._exchange.send(
            method,
            self.endpoint.with_namespace(url),
            scope=scope_of(self._path(reference), "pull"),
            headers=headers,
        )

    def _expect(self, response: Response, good: set[HTTPStatus], what: str) -> None:
        if response.status not in good:
            raise self._error(response, what)

    def _error(self, response: Response, what: str) -> ModelRunnerError:
        try:
            body = read_limited(response, BODY_LIMIT, self.name)
        except TransferError:
            body = b""
        return error_for(response.status, response.headers, body, what=what, registry=self.name)

    def _blob_error(self, response: Response, what: str) -> ModelRunnerError:
        error = self._error(response, what)
        if not isinstance(error, ManifestNotFoundError):
            return error
        return ManifestNotFoundError(
            f"{what}: the manifest lists this blob, but {self.name} does not have it",
            hint="try another tag, or report it to the registry's administrator",
            registry=self.name,
            missing="blob",
        )

    def _url(self, reference: Reference, kind: str, name: str) -> str:
        return f"{self.endpoint.base}/v2/{self._path(reference)}/{kind}/{name}"

    def _path(self, reference: Reference) -> str:
        return self.endpoint.path_of(reference.repository)

    def _client(self, reference: Reference, what: str) -> "OrasClient":
        """The client of `oras` for one operation on a repository.

        Args:
            reference: The model.
            what: What is asked for, as people name it.
        """
        # takes longer than a pull may, and a pull does without
        from modelrunner.registry.oci.oras_client import OrasClient

        return OrasClient(
            self._exchange,
            self.endpoint,
            self._path(reference),
            scope=scope_of(self._path(reference), "pull"),
            error_of=lambda response: self._error(response, what),
        )

    def _login(self) -> Credential | None:
        patience = min(PATIENCE_S, self._backoff.remaining_s())
        return self._credentials.find(self.endpoint.account, patience)

    @cached_property
    def _exchange(self) -> Exchange:
        return Exchange(
            self.endpoint,
            self._login,
            known=self._known,
            read_timeout_s=self._read_timeout_s,
            remaining_s=self._backoff.remaining_s,
        )


def _said_digest(response: Response) -> str | None:
    """The digest of a manifest in the headers of an answer: Ollama's registry has its own one."""
    own = response.headers.get("Ollama-Content-Digest")
    return response.headers.get("Docker-Content-Digest") or (f"sha256:{own}" if own else None)


def _digest_of(manifest: Manifest | Index) -> Digest:
    return Digest.of(manifest.raw)
