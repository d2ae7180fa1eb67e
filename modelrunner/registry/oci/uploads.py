"""The writing half of the protocol: blobs looked for, mounted and uploaded, and manifests.

An upload is a session at the registry, whose address each answer may change. It takes a blob in one
request, or piece by piece; after a request that broke, the registry may report how much it has.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

from modelrunner.errors import MalformedManifestError, ModelRunnerError, RegistryAnswerError
from modelrunner.frozen import record
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.registry.http.connections import Response
from modelrunner.registry.http.direct.pool import Content
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.exchange import Exchange, finishing
from modelrunner.wire import parse_count

_REMOVED = (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT)
_NOT_REMOVABLE = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.NOT_IMPLEMENTED,
)
_STREAM = "application/octet-stream"
_RECEIVED = re.compile(r"(?:bytes=)?0-(\d{1,19})")

ErrorOf = Callable[[Response], ModelRunnerError]
"""The error that an unexpected answer stands for."""


@record
class Session:
    """One upload.

    Attributes:
        url: Where the next bytes go.
        least: The fewest bytes that the registry takes in a piece that is not the last.
    """

    url: str
    least: int = 0


class Uploads:
    """Writing requests to one repository.

    Args:
        exchange: What sends them.
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
        self._exchange = exchange
        self._endpoint = endpoint
        self._base = f"{endpoint.base}/v2/{repository}"
        self._scope = scope
        self._error_of = error_of

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has the blob."""
        with self._send("HEAD", f"{self._base}/blobs/{digest}") as response:
            if response.status == HTTPStatus.NOT_FOUND:
                return False
            self._expect(response, HTTPStatus.OK)
            return True

    def mount_blob(self, digest: Digest, repository: str) -> bool:
        """Whether the registry has taken the blob over from another of its repositories.

        Whatever else it answers, the blob can be uploaded.
        """
        query = f"?mount={digest}&from={repository}"
        with self._send("POST", f"{self._base}/blobs/uploads/{query}") as response:
            return response.status == HTTPStatus.CREATED

    def begin(self) -> Session:
        """Start an upload."""
        with self._send("POST", f"{self._base}/blobs/uploads/") as response:
            self._expect(response, HTTPStatus.ACCEPTED)
            session = Session(self._target(response))
            session.least = parse_count(response.headers.get("OCI-Chunk-Min-Length", "")) or 0
            return session

    def received(self, session: Session) -> int:
        """How many bytes of an upload that broke the registry has; 0 where it does not say.

        Raises:
            TransferError: No answer.
        """
        with self._send("GET", session.url) as response:
            if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                return 0
            if response.headers.get("Location"):
                session.url = self._target(response)
            found = _RECEIVED.fullmatch(response.headers.get("Range", "").strip())
        last = None if found is None else parse_count(found[1])
        # "0-0" is what some say of nothing at all
        return last + 1 if last else 0

    def append(self, session: Session, content: Content, first: int, end: int) -> None:
        """Upload bytes from `first` to `end` (exclusive) of a blob."""
        headers = {"Content-Type": _STREAM, "Content-Length": str(end - first)}
        headers["Content-Range"] = f"{first}-{end - 1}"
        with self._send("PATCH", session.url, content, headers) as response:
            self._expect(response, HTTPStatus.ACCEPTED)
            session.url = self._target(response)

    def finish(self, session: Session, digest: Digest, content: Content = b"") -> None:
        """Upload the last bytes of a blob, which may be all of them, and name it."""
        size = len(content or b"")
        headers = {"Content-Type": _STREAM, "Content-Length": str(size)}
        with self._send("PUT", _with_digest(session.url, digest), content, headers) as response:
            self._expect(response, HTTPStatus.CREATED)

    def cancel(self, session: Session) -> None:
        """Tell the registry that an upload is not continued; whatever it answers."""
        with self._send("DELETE", session.url):
            pass

    def delete_manifest(self, name: str) -> bool:
        """Remove a tag, or a manifest by its digest; whether the registry does that.

        Raises:
            ManifestNotFoundError: It does not have it.
            AccessError, TransferError: It says no, or nothing.
        """
        with self._send("DELETE", f"{self._base}/manifests/{name}") as response:
            if response.status in _REMOVED:
                return True
            if response.status in _NOT_REMOVABLE:
                return False
            raise self._error_of(response)

    def put_manifest(self, manifest: Manifest | Index, name: str) -> Digest | None:
        """Upload a manifest under a tag or its digest, byte by byte as it is.

        Returns:
            The manifest among whose referrers the registry lists it; None where it does not.
        """
        headers = {"Content-Type": manifest.media_type}
        url = f"{self._base}/manifests/{name}"
        with self._send("PUT", url, manifest.raw, headers) as response:
            self._expect(response, HTTPStatus.CREATED)
            subject = response.headers.get("OCI-Subject")
        try:
            return None if subject is None else Digest.parse(subject.strip())
        except MalformedManifestError:
            return None

    def _send(
        self,
        method: str,
        url: str,
        content: Content = None,
        headers: dict[str, str] | None = None,
    ) -> AbstractContextManager[Response]:
        return finishing(
            self._exchange.send(
                method,
                self._endpoint.with_namespace(url),
                scope=self._scope,
                headers=headers,
                content=content,
            )
        )

    def _expect(self, response: Response, status: HTTPStatus) -> None:
        if response.status != status:
            raise self._error_of(response)

    def _target(self, response: Response) -> str:
        """Where the bytes go, which is decided as for a redirect."""
        where = response.headers.get("Location")
        if not where:
            label = self._endpoint.label
            raise RegistryAnswerError(f"{label}: the answer does not say where to upload to")
        return self._exchange.follow_to(response.url, where)


def _with_digest(url: str, digest: Digest) -> str:
    parts = urlsplit(url)
    query = f"{parts.query}&digest={digest}" if parts.query else f"digest={digest}"
    return urlunsplit(parts._replace(query=query))
