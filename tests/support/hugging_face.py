"""A Hugging Face Hub in small, over real HTTP: listings in pages, a CDN on another host, tokens.

As the real one: a private repository and one that does not exist look alike to whoever has no
token, a gated one says so in `X-Error-Code`, another case of the name is redirected, and files are
redirected to signed addresses on another host, which must not see the token.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
PAGE = 3


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
    downloads: int = 0
    gguf: dict[str, object] | None = None
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
    repositories: dict[str, Repository] = field(default_factory=dict)
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
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    yield hub
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


def _server(host: str, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    return ThreadingHTTPServer((host, 0), handler)


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
            real = next((key for key in hub.repositories if key.lower() == name.lower()), None)
            if real is not None and real != name:
                self.answer(307, Location=self.path.replace(name, real))
                return
            token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            found = hub.repositories.get(name)
            if found is None or (found.token and token != found.token and not found.gated):
                self.answer(404 if token else 401, X_Error_Code="RepoNotFound")
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
            elif api:
                self._tree(at[1], parse_qs(urlsplit(self.path).query))
            elif found.gated and token != found.token:
                self.answer(403, X_Error_Code="GatedRepo")
            elif path in found.gone or path not in at[1]:
                self.answer(404, X_Error_Code="EntryNotFound")
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

        def _tree(self, files: dict[str, bytes], query: dict[str, list[str]]) -> None:
            start = int(query.get("cursor", ["0"])[0])
            entries = [_entry(path, content) for path, content in sorted(files.items())]
            more = {}
            if start + PAGE < len(entries):
                path = urlsplit(self.path).path
                link = f"{hub.url}{path}?recursive=true&cursor={start + PAGE}"
                more["Link"] = f'<{link}>; rel="next"'
            self._json(entries[start : start + PAGE], **more)

        def _json(self, value: object, **headers: str) -> None:
            self.answer(200, json.dumps(value).encode(), Content_Type="application/json", **headers)

    return Handler


def _entry(path: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
    if path.endswith((".gguf", ".safetensors")):
        oid = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 135}
    return entry


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
