"""Ollama's registry, as far as it is one: manifests by tag, blobs behind a redirect, nothing else.

What it lacks and how it answers is after ollama/ollama's issues 6470 (manifests are `text/plain`)
and 6510, oras-project/oras-go's 882 (no `Content-Length`, no `HEAD` of manifests at that time) and
`server/internal/client/ollama/registry.go` of ollama (a manifest by its digest is a blob). Today
`HEAD` has the digest in `Ollama-Content-Digest`.
"""

from tests.support.registry import Cdn, Registry
from tests.support.registry_messages import Reply, Request
from tests.support.registry_storage import Repository

_NOT_FOUND = b"404 page not found\n"


class OllamaRegistry(Registry):
    """The registry, whose blobs are on another host.

    Args:
        cdn: Where the blobs are.
        heads: Whether it answers `HEAD` for manifests.
    """

    def __init__(self, cdn: Cdn, *, heads: bool = True) -> None:
        super().__init__()
        self.redirect_blobs(cdn, 307)
        self._heads = heads

    def _route(self, request: Request) -> Reply:
        if request.kind in ("ping", "tags", "referrers"):
            return _not_found()
        return super()._route(request)

    def _manifest(self, request: Request, repository: Repository) -> Reply:
        manifest = repository.find(request.reference)
        if manifest is None or request.reference.startswith("sha256:"):
            return _not_found()
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if request.method == "HEAD":
            if not self._heads:
                return Reply(405, {"Content-Type": "text/plain"})
            headers["Ollama-Content-Digest"] = manifest.digest.removeprefix("sha256:")
            return Reply(200, headers)
        # in chunks: no length is announced
        return Reply(200, headers, digest=manifest.digest, tail=[manifest.content])

    def _blob(self, request: Request, repository: Repository) -> Reply:
        if request.reference in repository.manifests:
            content = repository.manifests[request.reference].content
            return Reply(200, {"Content-Type": "application/octet-stream"}, content)
        return super()._blob(request, repository)


def _not_found() -> Reply:
    return Reply(404, {"Content-Type": "text/plain; charset=utf-8"}, _NOT_FOUND)
