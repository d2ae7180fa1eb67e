"""The files of the page that llama.cpp has for chats, as its server hands them out.

They lie inside the runtime, so they are asked of one that runs, and kept: they are the same for all
models. Nothing in them is secret; a key is needed for what they then ask.
"""

import base64
import gzip
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from modelrunner.runtime.base import Server
from modelrunner.serve.upstream import asked

PREFIX = "/ui/"
INDEX = "index.html"
_FILE = re.compile(
    r"/ui/(?P<model>.+?)/(?P<file>index\.html|sw\.js|_app/[A-Za-z0-9_./-]+"
    r"|[A-Za-z0-9_-]+\.(?:png|svg|ico|json|webmanifest|mjs|wasm)|recommended-mcp/[a-z0-9_.-]+)"
)
_SCRIPT = re.compile(rb"<script(?:\s[^>]*)?>(.*?)</script>", re.DOTALL)
_PASSED = {b"content-type", b"content-encoding"}
_FILE_LIMIT = 32 * 1024 * 1024
_TOTAL_LIMIT = 64 * 1024 * 1024
_FOUND = 200


@dataclass(frozen=True, slots=True)
class ChatFile:
    """One file.

    Attributes:
        body: Its bytes, compressed by gzip.
        kind: Its content type.
    """

    body: bytes
    kind: str

    def content(self) -> bytes:
        """The file, not compressed."""
        return gzip.decompress(self.body)


@dataclass(slots=True)
class ChatFiles:
    """All files that were asked for, by their names."""

    files: dict[str, ChatFile] = field(default_factory=dict)

    def __contains__(self, path: object) -> bool:
        """Whether an address is one of the page's files, which has been handed out before."""
        return INDEX in self.files and isinstance(path, str) and split(path) is not None

    async def find(self, name: str, server: Server) -> ChatFile | None:
        """A file, asked of a server where it is not known; None if there is none.

        Raises:
            BrokenOffError: The server ended.
        """
        found = self.files.get(name)
        if found is not None:
            return found
        url = f"{server.base_url.removesuffix('/v1')}/{name}"
        headers = [(b"accept-encoding", b"gzip")]
        # without its key: so it answers with nothing that needs one
        async with asked(url, b"", headers, api_key="", method="GET") as reply:
            body = bytearray()
            async for piece in reply.body:
                body += piece
                if len(body) > _FILE_LIMIT:
                    return None
            kind = reply.header(b"content-type").decode("latin-1")
            packed = reply.header(b"content-encoding") == b"gzip"
        if reply.status != _FOUND:
            return None
        found = ChatFile(bytes(body) if packed else gzip.compress(bytes(body), 1), kind)
        if sum(len(each.body) for each in self.files.values()) + len(body) <= _TOTAL_LIMIT:
            self.files[name] = found
        return found


def split(path: str) -> tuple[str, str] | None:
    """The model and the file that an address means; None where it means no file."""
    match = _FILE.fullmatch(path)
    if match is None or ".." in match["file"]:
        return None
    return match["model"], match["file"]


def is_page(path: str) -> bool:
    """Whether an address is one of a page for people."""
    found = split(path)
    return path in ("/", PREFIX.removesuffix("/")) or (found is not None and found[1] == INDEX)


def address(model: str) -> str:
    """Where the page for a model is."""
    return f"{PREFIX}{quote(model, safe='/:')}/{INDEX}"


def policy(index: bytes) -> str:
    """What the page may do, as a Content-Security-Policy: nothing beyond this server.

    Args:
        index: Its HTML, whose scripts are allowed by their hashes.
    """
    scripts = " ".join(f"'sha256-{each}'" for each in _hashes(index))
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' {scripts};"
        # it sets styles of elements, and makes workers and frames of its own text
        " style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; frame-src 'self' blob:;"
        " img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:;"
        " connect-src 'self' data: blob:; manifest-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )


def _hashes(index: bytes) -> Iterator[str]:
    for script in _SCRIPT.findall(index):
        if script.strip():
            yield base64.b64encode(hashlib.sha256(script).digest()).decode()
