"""An OCI registry as a sink: blobs and manifests go up."""

from contextlib import suppress

from modelrunner.errors import (
    IntegrityError,
    ModelRunnerError,
    RegistryAnswerError,
    RequestTooLargeError,
)
from modelrunner.frozen import record
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import DEFAULT_TAG, Reference
from modelrunner.registry.http.direct.pool import Content
from modelrunner.registry.http.file_body import FileContent
from modelrunner.registry.http.tokens import scope_of
from modelrunner.registry.oci.source import OciRegistry
from modelrunner.registry.oci.uploads import Session, Uploads
from modelrunner.registry.source import Framed, OpenContent, Outflow, UploadContent

CHUNK = 16 * 1024 * 1024
"""Bytes of a chunk: below what proxies usually take, above what registries ask for at least."""


@record
class _Found:
    """What was found out about a registry: known to all connections to it.

    Attributes:
        in_chunks: Whether it, or a proxy in front of it, has refused a blob in one request.
    """

    in_chunks: bool = False


class OciSink(OciRegistry):
    """One registry that may be written to. Not to be shared between threads."""

    _found: _Found | None = None

    @property
    def found(self) -> _Found:
        """What is known of the registry by now."""
        if self._found is None:
            self._found = _Found()
        return self._found

    def another(self) -> "OciSink":
        """The same registry for another thread."""
        other = OciSink(
            self.endpoint,
            self._credentials,
            backoff=self._backoff,
            known=self._known,
            read_timeout_s=self._read_timeout_s,
        )
        other._found = self.found
        return other

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether the repository has the blob."""
        uploads = self._uploads(reference, reference.short)
        return self._backoff.run(lambda: uploads.has_blob(digest))

    def mount_blob(self, reference: Reference, digest: Digest, repository: str) -> bool:
        """Asks the registry to take the blob over from another of its repositories."""
        scope = scope_of(repository, "pull")
        return self._uploads(reference, reference.short, scope).mount_blob(digest, repository)

    def upload(
        self, reference: Reference, descriptor: Descriptor, content: Framed | UploadContent
    ) -> "Upload":
        """The upload of a blob, which can be tried until it is done."""
        what = f"{reference.short}: blob {descriptor.digest.short}"
        read = FileContent(content, descriptor.size) if isinstance(content, Framed) else content
        return Upload(self._uploads(reference, what), self.found, descriptor, read)

    def push_manifest(self, reference: Reference, manifest: Manifest | Index) -> Digest | None:
        """Uploads a manifest under the reference's tag, or by its digest where it has none.

        Returns:
            The manifest among whose referrers the registry lists it; None where it does not.

        Raises:
            AccessError, TransferError: The registry does not take it.
        """
        uploads = self._uploads(reference, reference.short)
        return uploads.put_manifest(manifest, reference.tag or str(manifest.digest))

    def delete(self, reference: Reference) -> bool:
        """Removes a tag, or the manifest of a digest with all of its tags.

        Returns:
            Whether the registry does that.

        Raises:
            ManifestNotFoundError: It does not have it.
            AccessError, TransferError: It says no, or nothing.
        """
        scope = scope_of(reference.repository, "delete")
        uploads = self._uploads(reference, reference.short, scope)
        name = str(reference.digest) if reference.digest is not None else reference.tag
        return self._backoff.run(lambda: uploads.delete_manifest(name or DEFAULT_TAG))

    def _uploads(self, reference: Reference, what: str, more_scope: str = "") -> Uploads:
        return Uploads(
            self._exchange,
            self.endpoint,
            reference.repository,
            scope=f"{scope_of(reference.repository, 'pull,push')} {more_scope}".strip(),
            error_of=lambda response: self._error(response, what),
        )


class Upload:
    """One blob on its way to a registry: in one request, in chunks where that is too large.

    A try that broke is continued by the next one where the registry reports what it has.
    """

    def __init__(
        self, uploads: Uploads, found: _Found, descriptor: Descriptor, content: UploadContent
    ) -> None:
        self._uploads = uploads
        self._found = found
        self._descriptor = descriptor
        self._content = content
        self._broken: Session | None = None

    def send(self, flow: Outflow) -> None:
        """Upload the blob, or what the registry does not have of it since the last try.

        Raises:
            AccessError, TransferError: The registry does not take it, or not now.
            IntegrityError: What was read is not what the digest says; the upload is abandoned.
        """
        with self._content.opened() as content:
            try:
                if self._broken is not None and self._resumed(self._broken, content, flow):
                    return
                self._from_start(content, flow)
            except IntegrityError:
                self._abandon()
                raise

    def _abandon(self) -> None:
        """End an upload whose bytes are wrong: no other try goes on with them."""
        session, self._broken = self._broken, None
        if session is not None:
            # a registry clears up what nobody ends, too
            with suppress(ModelRunnerError):
                self._uploads.cancel(session)

    def _resumed(self, session: Session, content: OpenContent, flow: Outflow) -> bool:
        """Whether an upload that broke could be brought to its end."""
        received = self._uploads.received(session)
        if received == 0 or received > self._descriptor.size:
            # maybe its end has come, and only the answer was lost
            return self._uploads.has_blob(self._descriptor.digest)
        flow.on_resumed(received)
        try:
            self._append(session, content, received, flow)
        except RegistryAnswerError:
            # it does not take it that way: once more from the start
            self._broken = None
            return False
        return True

    def _from_start(self, content: OpenContent, flow: Outflow) -> None:
        size = self._descriptor.size
        if not self._found.in_chunks:
            session = self._begin()
            try:
                body = self._body(content, 0, size, flow)
                self._uploads.finish(session, self._descriptor.digest, body)
            except RequestTooLargeError:
                self._found.in_chunks = True
            else:
                return
        self._append(self._begin(), content, 0, flow)

    def _begin(self) -> Session:
        self._broken = self._uploads.begin()
        return self._broken

    def _append(self, session: Session, content: OpenContent, begin: int, flow: Outflow) -> None:
        size = self._descriptor.size
        while begin < size:
            end = size
            if self._found.in_chunks:
                end = min(size, begin + max(CHUNK, session.least))
            try:
                body = self._body(content, begin, end, flow)
                self._uploads.append(session, body, begin, end)
            except RequestTooLargeError:
                if self._found.in_chunks:
                    raise
                self._found.in_chunks = True
            else:
                begin = end
        self._uploads.finish(session, self._descriptor.digest)

    def _body(self, content: OpenContent, begin: int, end: int, flow: Outflow) -> Content:
        return b"" if begin == end else content.body(begin, end, flow)
