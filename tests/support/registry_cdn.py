"""The other host that blobs really come from: signed URLs that expire, ranges, no credentials.

Like an object store, it refuses a request that carries `Authorization` beside its signature: a
client that takes its token along over the redirect fails here as it fails in the world.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from urllib.parse import urlencode

from tests.support.registry_messages import Reply, Request
from tests.support.registry_server import Origin

_PATH = re.compile(r"/registry-v2/docker/registry/v2/blobs/sha256/../(?P<hex>[0-9a-f]{64})/data")


class Cdn(Origin):
    """Serves blobs to those who bring a valid signature."""

    def __init__(self, *, host: str = "127.0.0.1", tls: bool = False) -> None:
        super().__init__(host=host, tls=tls)
        self._find: Callable[[str], bytes | None] = lambda _: None
        self._key = b"first"

    def serve_from(self, find: Callable[[str], bytes | None]) -> None:
        """Where the blobs are."""
        self._find = find

    def link(self, digest: str, expires_in: float = 300) -> str:
        """A signed URL."""
        name = digest.removeprefix("sha256:")
        path = f"/registry-v2/docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"
        expires = f"{time.time() + expires_in:.3f}"
        query = urlencode({"expires": expires, "sig": self._signature(path, expires)})
        return f"{self.url}{path}?{query}"

    def expire_links(self) -> None:
        """Make every URL handed out so far invalid."""
        self._key = hashlib.sha256(self._key).digest()

    def classify(self, request: Request) -> None:
        if match := _PATH.fullmatch(request.path):
            request.kind, request.reference = "blob", f"sha256:{match['hex']}"

    def respond(self, request: Request) -> Reply:
        content = self._find(request.reference)
        if request.authorization is not None:
            return _xml(400, "InvalidArgument", "Only one auth mechanism allowed")
        if not self._is_valid(request):
            return _xml(403, "AccessDenied", "Request has expired")
        if content is None or request.method not in {"GET", "HEAD"}:
            return _xml(404, "NoSuchKey", "The specified key does not exist.")
        headers = {
            "Content-Type": "application/octet-stream",
            "ETag": f'"{request.reference[-32:]}"',
        }
        return Reply(200, headers, content, digest=request.reference, ranges=True)

    def _is_valid(self, request: Request) -> bool:
        expires = request.query.get("expires", "")
        right = self._signature(request.path, expires)
        if not hmac.compare_digest(right, request.query.get("sig", "")):
            return False
        return time.time() < float(expires)

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._key, f"{path}?{expires}".encode(), "sha256").hexdigest()


def _xml(status: int, code: str, message: str) -> Reply:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return Reply(status, {"Content-Type": "application/xml"}, body.encode())
