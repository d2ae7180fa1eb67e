"""An OCI registry on loopback, as faithful to Docker Hub as a test can ask and as bad as it wants.

    with Registry() as registry:
        digest = registry.add(docker_artifact(weights), "ai/smollm2", tags=["135M", "latest"])
        registry.cut_after(1000)
        pull(registry.reference("ai/smollm2:135M"))
        assert registry.count("GET", "blobs") == 3

It speaks the distribution specification (`registry_uploads` is its writing half), demands tokens
(`registry_auth`), sends blob requests to a CDN (`registry_cdn`), misbehaves (`registry_faults`)
and remembers every request (`registry_server`). It knows nothing of the program under test.
"""

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from urllib.parse import urlencode

from tests.support.artifacts import Artifact
from tests.support.registry_auth import (
    BasicAuth,
    OpenDoor,
    TokenAuth,
    TokenPolicy,
    TokenServer,
)
from tests.support.registry_cdn import Cdn
from tests.support.registry_fault import Fault
from tests.support.registry_messages import Reply, Request, error, json_reply
from tests.support.registry_server import Origin
from tests.support.registry_storage import Repository, Storage, StoredManifest, sha256
from tests.support.registry_tls import can_make_certificates
from tests.support.registry_uploads import Uploads

__all__ = [
    "Cdn",
    "Fault",
    "Registry",
    "Request",
    "TokenServer",
    "can_make_certificates",
    "sha256",
]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_UPLOAD = re.compile(r"/v2/(?P<name>.+?)/blobs/uploads/(?P<reference>[^/]*)")
_CONTENT = re.compile(
    r"/v2/(?P<name>.+?)/(?P<kind>manifests|blobs|tags|referrers)/(?P<reference>[^/]+)"
)
_KINDS = {"manifests": "manifest", "blobs": "blob", "tags": "tags", "referrers": "referrers"}


class Registry(Origin):
    """The registry; see `Origin` for its address and log, `Faults` for its misbehaviour.

    Args:
        host: The name in its URLs; it listens on 127.0.0.1.
        tls: Speak TLS with a certificate that `ca_file` makes trusted.
        page_size: At most so many tags a page, asked for or not.
    """

    def __init__(
        self, *, host: str = "127.0.0.1", tls: bool = False, page_size: int | None = None
    ) -> None:
        super().__init__(host=host, tls=tls)
        self.storage = Storage()
        self.page_size = page_size
        self.referrers_supported = True
        self.referrers_page_size: int | None = None
        self.tag_fields: Mapping[str, object] = {}
        self._uploads = Uploads(self.storage)
        self._auth: OpenDoor = OpenDoor()
        self._blob_link: Callable[[str], Reply] | None = None

    # What it holds.

    def add(self, artifact: Artifact, repository: str, tags: Iterable[str] = ()) -> str:
        """Store an artifact, as if it had been pushed; returns its digest."""
        for child in artifact.children:
            self.add(child, repository)
        there = self.storage.make_repository(repository)
        there.blobs |= artifact.blobs
        manifest = StoredManifest(artifact.manifest, artifact.media_type)
        there.manifests[manifest.digest] = manifest
        for tag in tags:
            there.tags[tag] = manifest.digest
        return manifest.digest

    def add_blob(self, content: bytes, repository: str) -> str:
        digest = sha256(content)
        self.storage.make_repository(repository).blobs[digest] = content
        return digest

    def tag(self, repository: str, tag: str, digest: str) -> None:
        """Point a tag at a manifest, as `latest` moves from one to the next."""
        self.storage.make_repository(repository).tags[tag] = digest

    def remove_tag(self, repository: str, tag: str) -> None:
        del self.storage.repositories[repository].tags[tag]

    def remove_blob(self, repository: str, digest: str) -> None:
        del self.storage.repositories[repository].blobs[digest]

    def tags(self, repository: str) -> dict[str, str]:
        """The tags and their digests."""
        return dict(self.storage.make_repository(repository).tags)

    def manifest_bytes(self, repository: str, reference: str) -> bytes:
        manifest = self.storage.repositories[repository].find(reference)
        if manifest is None:
            raise LookupError(f"no manifest {reference} in {repository}")
        return manifest.content

    def blob_bytes(self, repository: str, digest: str) -> bytes:
        return self.storage.repositories[repository].blobs[digest]

    def reference(self, name: str) -> str:
        """`ai/smollm2:135M` at this registry, as a user would write it."""
        return f"{self.host}/{name}"

    # How it lets clients in, and where it sends them.

    def demand_token(
        self,
        users: Mapping[str, str] | None = None,
        realm: str | TokenServer | None = None,
        expires_in: float = 300,
        private: Collection[str] = (),
        *,
        identity_tokens: Mapping[str, str] | None = None,
        service: str = "registry.docker.io",
        fields: tuple[str, ...] = ("token", "access_token"),
        denies: bool = False,
    ) -> TokenAuth:
        """Ask for a bearer token, to be had at `/token`, at a token server or (an attack) at a URL.

        Known users get what they ask for, anybody else may pull what is not private. The result
        can `expire` the tokens in circulation.
        """
        policy = TokenPolicy(
            users or {},
            identity_tokens or {},
            frozenset(private),
            expires_in,
            service,
            fields,
            denies,
        )

        def address() -> str:
            if isinstance(realm, TokenServer):
                return f"{realm.url}/token"
            return realm or f"{self.url}/token"

        auth = TokenAuth(policy, address, lambda name: self.storage.repository(name) is not None)
        if isinstance(realm, TokenServer):
            realm.auth = auth
        self._auth = auth
        return auth

    def demand_basic(self, user: str, password: str) -> None:
        """Ask for HTTP Basic credentials."""
        self._auth = BasicAuth(user, password)

    def demand_nothing(self) -> None:
        """Let everybody in again."""
        self._auth = OpenDoor()

    def redirect_blobs(self, to: Cdn, status: int = 307, expires_in: float = 300) -> None:
        """Answer blob requests with a signed URL of the CDN."""
        to.serve_from(self.storage.blob)
        self._blob_link = lambda digest: Reply(status, {"Location": to.link(digest, expires_in)})

    # How it answers.

    def classify(self, request: Request) -> None:
        if request.path in {"/v2", "/v2/"}:
            request.kind = "ping"
        elif request.path == "/token":
            request.kind = "token"
        elif match := _UPLOAD.fullmatch(request.path):
            request.kind = "upload"
            request.repository, request.reference = match["name"], match["reference"]
        elif match := _CONTENT.fullmatch(request.path):
            request.kind = _KINDS[match["kind"]]
            request.repository, request.reference = match["name"], match["reference"]

    def respond(self, request: Request) -> Reply:
        if request.kind == "token" and isinstance(self._auth, TokenAuth):
            return self._auth.issue(request)
        reply = self._auth.refuse(request) or self._route(request)
        reply.headers.setdefault("Docker-Distribution-Api-Version", "registry/2.0")
        return reply

    def _route(self, request: Request) -> Reply:
        if request.kind == "ping":
            return json_reply(200, {})
        writers = {
            ("upload", "POST"): self._begin_upload,
            ("manifest", "PUT"): self._uploads.put_manifest,
        }
        if writer := writers.get((request.kind, request.method)):
            reply = writer(request)
            if not self.referrers_supported:
                reply.headers.pop("OCI-Subject", None)
            return reply
        if request.kind == "upload":
            return self._uploads.proceed(request)
        repository = self.storage.repository(request.repository)
        if repository is None:
            detail = {"name": request.repository}
            return error(404, "NAME_UNKNOWN", "repository name not known to registry", detail)
        return self._read(request, repository)

    def _read(self, request: Request, repository: Repository) -> Reply:
        readers = {
            "manifest": self._manifest,
            "blob": self._blob,
            "tags": self._tag_page,
            "referrers": self._referrers,
        }
        if request.kind in readers and request.method in {"GET", "HEAD"}:
            return readers[request.kind](request, repository)
        if request.kind in {"manifest", "blob"} and request.method == "DELETE":
            return self._delete(request, repository)
        return error(405, "UNSUPPORTED", "the operation is unsupported")

    def _begin_upload(self, request: Request) -> Reply:
        may_mount = self._auth.permits(request, request.query.get("from", ""), "pull")
        return self._uploads.begin(request, may_mount=may_mount)

    def _manifest(self, request: Request, repository: Repository) -> Reply:
        manifest = repository.find(request.reference)
        if manifest is None:
            detail = {"Tag": request.reference}
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown", detail)
        headers = {
            "Content-Type": manifest.media_type,
            "Docker-Content-Digest": manifest.digest,
            "ETag": f'"{manifest.digest}"',
        }
        return Reply(200, headers, manifest.content, digest=manifest.digest)

    def _blob(self, request: Request, repository: Repository) -> Reply:
        digest = request.reference
        if digest not in repository.blobs:
            detail = {"digest": digest}
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry", detail)
        if self._blob_link is not None:
            return self._blob_link(digest)
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
        }
        return Reply(200, headers, repository.blobs[digest], digest=digest, ranges=True)

    def _tag_page(self, request: Request, repository: Repository) -> Reply:
        asked = request.query.get("n", "")
        limits = [int(asked)] if asked.isdigit() else []
        limits += [] if self.page_size is None else [self.page_size]
        last = request.query.get("last", "")
        rest = [tag for tag in sorted(repository.tags) if tag > last]
        page = list(itertools.islice(rest, min(limits, default=None)))
        headers = {}
        if page and len(page) < len(rest):
            query = urlencode({"n": len(page), "last": page[-1]})
            headers["Link"] = f'</v2/{request.repository}/tags/list?{query}>; rel="next"'
        document = {"name": request.repository, "tags": page, **self.tag_fields}
        return json_reply(200, document, headers)

    def _referrers(self, request: Request, repository: Repository) -> Reply:
        if not self.referrers_supported:
            return Reply(404, {"Content-Type": "text/plain"}, b"404 page not found\n")
        wanted = request.query.get("artifactType")
        descriptors = []
        for manifest in repository.referrers(request.reference):
            document = manifest.document
            config = document.get("config")
            fallback = config.get("mediaType") if isinstance(config, dict) else None
            descriptor = {
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": len(manifest.content),
                "artifactType": document.get("artifactType", fallback),
                "annotations": document.get("annotations", {}),
            }
            if wanted in {None, descriptor["artifactType"]}:
                descriptors.append(descriptor)
        headers = {"Content-Type": OCI_INDEX}
        start = int(request.query.get("from", "0"))
        size = self.referrers_page_size or len(descriptors)
        if len(descriptors) > start + size:
            query = urlencode({**request.query, "from": start + size})
            headers["Link"] = f'<{request.path}?{query}>; rel="next"'
        page = descriptors[start : start + size]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page}
        if wanted is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
        return Reply(200, headers, json.dumps(index).encode())

    def _delete(self, request: Request, repository: Repository) -> Reply:
        if request.kind == "blob":
            found = repository.blobs.pop(request.reference, None) is not None
            return Reply(202) if found else error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if repository.tags.pop(request.reference, None) is not None:
            return Reply(202)
        if repository.manifests.pop(request.reference, None) is None:
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        for tag in [tag for tag, digest in repository.tags.items() if digest == request.reference]:
            del repository.tags[tag]
        return Reply(202)
