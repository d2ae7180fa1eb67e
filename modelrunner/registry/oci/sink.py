"""An OCI registry as a sink: blobs and manifests go up."""

from pathlib import Path

from modelrunner.errors import RequestTooLargeError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.tokens import scope_of
from modelrunner.registry.oci.source import OciRegistry
from modelrunner.registry.source import OnSent


class OciSink(OciRegistry):
    """One registry that may be written to. Not to be shared between threads."""

    _in_chunks = False
    """Whether it, or a proxy in front of it, has refused a blob in one request."""

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether the repository has the blob."""
        client = self._client(reference, reference.short, rights="pull,push")
        return self._backoff.run(lambda: client.has_blob(digest))

    def mount_blob(self, reference: Reference, digest: Digest, repository: str) -> bool:
        """Asks the registry to take the blob over from another of its repositories."""
        client = self._client(
            reference,
            reference.short,
            rights="pull,push",
            more_scope=scope_of(repository, "pull"),
        )
        return client.mount_blob(digest, repository)

    def push_blob(
        self, reference: Reference, descriptor: Descriptor, path: Path, on_sent: OnSent
    ) -> None:
        """Uploads a blob in one streamed request; in chunks where that is too large.

        Raises:
            AccessError, TransferError: The registry does not take it.
        """
        what = f"{reference.short}: blob {descriptor.digest.short}"
        client = self._client(reference, what, rights="pull,push")
        if not self._in_chunks:
            try:
                client.push_blob(descriptor, path, on_sent)
            except RequestTooLargeError:
                self._in_chunks = True
            else:
                return
        client.push_in_chunks(descriptor, path, on_sent)

    def push_manifest(self, reference: Reference, manifest: Manifest) -> None:
        """Uploads a manifest under the reference's tag.

        Raises:
            AccessError, TransferError: The registry does not take it.
        """
        client = self._client(reference, reference.short, rights="pull,push")
        client.push_manifest(manifest, reference.tag or str(manifest.digest))
