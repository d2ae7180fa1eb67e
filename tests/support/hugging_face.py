"""A Hugging Face Hub in small, over real HTTP: listings in pages, a CDN on another host, tokens.

As the real one: a private repository and one that does not exist look alike to whoever has no
token, a gated one says so in `X-Error-Code`, another case of the name and an earlier name are
redirected, files are redirected to signed addresses on another host, which must not see the token,
and tokens of a login in a browser are exchanged for new ones. Small files are known by their git
digest alone.
"""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
PAGE = 3
XET_TOKEN = "xet_secret"
LARGE = (".gguf", ".safetensors", ".onnx", ".dduf", ".npz")
"""What is kept as large files."""


@dataclass
class Repository:
    """What a repository has; content by path."""

    files: dict[str, bytes]
    token: str | None = None
    gated: bool = False
    gone: set[str] = field(default_factory=set)
    lies: dict[str, bytes] = field(default_factory=dict)
    earlier: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """What it had at other commits, the latest of them first."""
    xet: dict[str, str] = field(default_factory=dict)
    """What Xet storage calls files."""
    downloads: int = 0
    gguf: dict[str, object] | None = None
    disabled: bool = False
    names: dict[str, str] = field(default_factory=dict)
    """Branches and tags beside `main`, and the commits that they are."""

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a revision, and what it has."""
        commit = COMMIT if revision == "main" else self.names.get(revision, revision)
        files = self.files if commit == COMMIT else self.earlier.get(commit)
        return None if files is None else (commit, files)


@dataclass
class Hub:
    """The Hub and its CDN while they run."""

    url: str = ""
    cdn: str = ""
    links: str = ""
    """Where next pages are, if not here."""
    repositories: dict[str, Repository] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    """Names by earlier ones."""
    small: threading.Event | None = None
    """What small files wait for."""
    refreshes: dict[str, str] = field(default_factory=dict)
    """Tokens by the refresh token that they are given for."""
    refreshed: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    agents: set[str | None] = field(default_factory=set)
    said: dict[str, str] = field(default_factory=dict)
    """Further headers of answers."""
    xet: str = "https://cas.invalid"
    """Where Xet storage is."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    limited: int = 0
    limit: dict[str, str] = field(default_factory=lambda: {"Retry_After": "1"})

    def paths(self, start: str = "") -> list[str]:
        """What was asked for."""
        return [path for _, path, _ in self.requests if path.startswith(start)]


@contextmanager
def hugging_face() -> Iterator[Hub]:
    """The block in which they run."""
    hub = Hub()
    servers = [_server("127.0.0.1", _hub_handler(hub)), _server("127.0.0.2", _cdn_handler(hub))]
    hub.url, hub.cdn = (f"http://{s.server_address[0]}:{s.server_address[1]}" for s in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]
    for thread in threads:
        thread.start()
    yield hub
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        # whoever was interrupted does not read to the end
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _server(host: str, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    return _Server((host, 0), handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _hub_handler(hub: Hub) -> type[_Handler]:  # noqa: C901 - a class in a function
    class Handler(_Handler):
        def do_GET(self) -> None:
            hub.requests.append(("hub", self.path, self.headers["Authorization"]))
            hub.agents.add(self.headers["User-Agent"])
            if hub.limited:
                hub.limited -= 1
                self.answer(429, **hub.limit)
                return
            parts = urlsplit(self.path)
            if parts.path == "/api/models":
                self._search(parse_qs(parts.query))
                return
            api = parts.path.startswith("/api/models/")
            words = parts.path.removeprefix("/api/models").strip("/").split("/")
            name, rest = "/".join(words[:2]), words[2:]
            if name in hub.renamed:
                self.answer(307, Location=self.path.replace(name, hub.renamed[name]))
                return
            real = next((key for key in hub.repositories if key.lower() == name.lower()), None)
            if real is not None and real != name:
                self.answer(307, Location=self.path.replace(name, real))
                return
            token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            found = hub.repositories.get(name)
            if token in hub.revoked:
                self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
            elif found is None or (found.token and token != found.token and not found.gated):
                self.answer(404 if token else 401, X_Error_Code="RepoNotFound", **hub.said)
            elif found.disabled:
                self.answer(403, X_Error_Message="Access to this resource is disabled.")
            else:
                self._tell(found, name, rest, api=api)

        def _tell(self, found: Repository, name: str, rest: list[str], *, api: bool) -> None:
            token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            at = found.at(unquote(rest[1]))
            path = "/".join(rest[2:])
            if at is None:
                self.answer(404, X_Error_Code="RevisionNotFound")
            elif api and rest[0] == "revision":
                self._json({"id": name, "sha": at[0], "gated": found.gated})
            elif api and rest[0] == "commits":
                commits = [COMMIT, *found.earlier]
                later = commits[commits.index(at[0]) :]
                self._json([{"id": commit, "title": "Upload"} for commit in later])
            elif api and rest[0] == "xet-read-token":
                access = {
                    "casUrl": hub.xet,
                    "accessToken": XET_TOKEN,
                    "exp": int(time.time()) + 900,
                }
                self._json(access)
            elif api:
                self._tree(at[1], parse_qs(urlsplit(self.path).query), found.xet)
            elif found.gated and token != found.token:
                self.answer(403, X_Error_Code="GatedRepo")
            elif path in found.gone or path not in at[1]:
                self.answer(404, X_Error_Code="EntryNotFound")
            elif not path.endswith(LARGE):
                if hub.small is not None:
                    hub.small.wait(60)
                content = found.lies.get(path) or at[1][path]
                self.answer(200, content, X_Repo_Commit=at[0], ETag=f'"{git_digest(content)}"')
            else:
                place = quote(f"{name}/{at[0]}/{path}")
                content = at[1][path]
                self.answer(
                    302,
                    Location=f"{hub.cdn}/{place}?signed=1",
                    X_Repo_Commit=at[0],
                    X_Linked_Etag=f'"{hashlib.sha256(content).hexdigest()}"',
                    X_Linked_Size=str(len(content)),
                    ETag=f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"',
                )

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            old = form["refresh_token"][0]
            hub.refreshed.append(old)
            if old in hub.refreshes:
                fresh = hub.refreshes[old]
                self._json({"access_token": fresh, "refresh_token": "next", "expires_in": 10**6})
            else:
                why = {"error": "invalid_grant", "error_description": "\x1b[31mgone"}
                self.answer(400, json.dumps(why).encode(), Content_Type="application/json")

        def _search(self, query: dict[str, list[str]]) -> None:
            text, limit = query.get("search", [""])[0].lower(), int(query["limit"][0])
            found = [
                {
                    "_id": "0" * 24,
                    "id": name,
                    "downloads": repository.downloads,
                    "likes": 7,
                    "gated": "manual" if repository.gated else False,
                    "siblings": [{"rfilename": path} for path in repository.files],
                    **({} if repository.gguf is None else {"gguf": repository.gguf}),
                }
                for name, repository in hub.repositories.items()
                if text in name.lower() and any(p.endswith(".gguf") for p in repository.files)
            ]
            found.sort(key=lambda entry: -int(str(entry["downloads"])))
            self._json(found[:limit])

        def _tree(
            self, files: dict[str, bytes], query: dict[str, list[str]], xet: dict[str, str]
        ) -> None:
            start = int(query.get("cursor", ["0"])[0])
            entries = [_entry(path, content, xet) for path, content in sorted(files.items())]
            more = {}
            if start + PAGE < len(entries):
                path = urlsplit(self.path).path
                link = f"{hub.links or hub.url}{path}?recursive=true&cursor={start + PAGE}"
                more["Link"] = f'<{link}>; rel="next"'
            self._json(entries[start : start + PAGE], **more)

        def _json(self, value: object, **headers: str) -> None:
            self.answer(200, json.dumps(value).encode(), Content_Type="application/json", **headers)

    return Handler


def _entry(path: str, content: bytes, xet: dict[str, str]) -> dict[str, object]:
    kept = content
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(content)}
    if path.endswith(LARGE):
        oid = hashlib.sha256(content).hexdigest()
        version = "https://git-lfs.github.com/spec/v1"
        kept = f"version {version}\noid sha256:{oid}\nsize {len(content)}\n".encode()
        entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": len(kept)}
        entry["xetHash"] = xet.get(path) or hashlib.sha256(oid.encode()).hexdigest()
    return {**entry, "oid": git_digest(kept)}


def git_digest(content: bytes) -> str:
    """What git calls a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _cdn_handler(hub: Hub) -> type[_Handler]:
    class Handler(_Handler):
        def do_GET(self) -> None:
            hub.requests.append(("cdn", self.path, self.headers["Authorization"]))
            words = unquote(urlsplit(self.path).path).strip("/").split("/")
            organisation, name, commit, *rest = words
            repository = hub.repositories[f"{organisation}/{name}"]
            path = "/".join(rest)
            at = repository.at(commit)
            content = repository.lies.get(path) or at[1][path]
            asked = self.headers["Range"]
            if not asked:
                self.answer(200, content, Accept_Ranges="bytes")
                return
            first, _, last = asked.removeprefix("bytes=").partition("-")
            stop = int(last) + 1 if last else len(content)
            part = content[int(first) : stop]
            span = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
            self.answer(206, part, Content_Range=span)

    return Handler
