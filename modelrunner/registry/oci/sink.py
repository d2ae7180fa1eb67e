"""An OCI registry as a sink: blobs and manifests go up."""

from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.exchange import Content
from modelrunner.registry.http.tokens import scope_of
from modelrunner.registry.oci.source import OciRegistry


class OciSink(OciRegistry):
    """One registry that may be written to. Not to be shared between threads."""

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether the repository has the blob."""
        url = self._address(self._url(reference).get_blob_url(str(digest)))
        return self._backoff.run(lambda: self._exists(url, reference))

    def mount_blob(self, reference: Reference, digest: Digest, repository: str) -> bool:
        """Asks the registry to take the blob over from another of its repositories."""
        url = self._address(self._url(reference).upload_blob_url())
        query = f"?mount={digest}&from={repository}"
        scope = f"{scope_of(reference.repository, 'pull,push')} {scope_of(repository, 'pull')}"
        with self._send("POST", url + query, reference, scope=scope) as response:
            return response.status_code == HTTPStatus.CREATED

    def push_blob(self, reference: Reference, descriptor: Descriptor, content: BinaryIO) -> None:
        """Uploads a blob in one streamed request.

        Raises:
            AccessError, TransferError: The registry does not take it.
        """
        what = f"{reference.short}: blob {descriptor.digest.short}"
        scope = scope_of(reference.repository, "pull,push")
        start = self._address(self._url(reference).upload_blob_url())
        with self._send("POST", start, reference, scope=scope) as response:
            self._expect(response, {HTTPStatus.ACCEPTED}, what)
            location = response.headers.get("Location", "")
        # where the bytes go is decided as for a redirect
        target = _with_digest(self._exchange.follow_to(start, location), descriptor.digest)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(descriptor.size),
        }
        body: Content = content if descriptor.size else b""
        with self._send(
            "PUT", target, reference, headers=headers, content=body, scope=scope
        ) as answer:
            self._expect(answer, {HTTPStatus.CREATED}, what)

    def push_manifest(self, reference: Reference, manifest: Manifest) -> None:
        """Uploads a manifest under the reference's tag.

        Raises:
            AccessError, TransferError: The registry does not take it.
        """
        name = reference.tag or str(manifest.digest)
        url = self._address(self._url(reference).manifest_url(name))
        headers = {"Content-Type": manifest.media_type}
        scope = scope_of(reference.repository, "pull,push")
        with self._send(
            "PUT", url, reference, headers=headers, content=manifest.raw, scope=scope
        ) as response:
            self._expect(response, {HTTPStatus.CREATED}, reference.short)

    def _exists(self, url: str, reference: Reference) -> bool:
        scope = scope_of(reference.repository, "pull,push")
        with self._send("HEAD", url, reference, scope=scope) as response:
            if response.status_code == HTTPStatus.NOT_FOUND:
                return False
            self._expect(response, {HTTPStatus.OK}, reference.short)
            return True


def _with_digest(url: str, digest: Digest) -> str:
    parts = urlsplit(url)
    query = f"{parts.query}&digest={digest}" if parts.query else f"digest={digest}"
    return urlunsplit(parts._replace(query=query))
