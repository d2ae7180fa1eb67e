"""An OCI registry over the local store: a fixture, a mirror, a LAN cache.

It answers what clients of the distribution specification ask when they pull: the version check,
manifests by tag and digest, blobs with ranges, the tags of a repository, the catalog, what refers
to a manifest. Every repository of the store is served under its full name, and those
of a registry under their own paths to clients that use this server as a mirror; see `repositories`.
It only reads; what would write is refused, unless there is a place for that, see `writing`. Where
registries stand behind it, what the store
lacks of them is fetched while it is served; see `upstream`.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from math import ceil
from pathlib import Path
from socket import AF_INET, AF_INET6
from socketserver import TCPServer
from threading import Lock, Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

from modelrunner.disk.inside import open_content
from modelrunner.errors import ModelRunnerError
from modelrunner.net import host_in, http_url, is_loopback
from modelrunner.oci import media_types
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import ANY_REPOSITORY, Reference
from modelrunner.oci.referrers import list_of
from modelrunner.runtime.child.ports import cannot_listen
from modelrunner.share.refusals import refusal_for
from modelrunner.share.repositories import (
    RefusalError,
    catalog,
    local_part,
    place_behind,
    repository,
    unknown_blob,
)
from modelrunner.share.upstream import Content, Upstream, WholeFile
from modelrunner.share.writing.access import check_writer
from modelrunner.share.writing.bodies import all_read, body_of
from modelrunner.share.writing.requests import Asked, Writing, checked_digest
from modelrunner.share.writing.storage import Repository as Pushed
from modelrunner.share.writing.storage import size_of
from modelrunner.store.store import Store

_ROUTE = re.compile(
    r"/v2/(?P<repository>.+)/(?P<kind>manifests|blobs|tags|referrers)/(?P<name>[^/]+)"
)
_UPLOAD = re.compile(r"/v2/.+/blobs/uploads/[0-9a-f]{32}")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_COUNT = re.compile(r"[0-9]{1,9}")
_CHUNK = 1024 * 1024
_log = logging.getLogger(__name__)


class ShareServer(ThreadingHTTPServer):
    """The server; `serve_forever` in a thread, `shutdown` to end it."""

    daemon_threads = True
    # a port that a server has just left can be taken at once; one in use cannot
    allow_reuse_address = True
    # a class of students starts at once
    request_queue_size = 128
    most_connections = 768
    """At once: each has a thread and a handle, of which a process has 1024 on most systems."""
    most_of_one = 256
    """Of one client."""

    def __init__(
        self,
        store: Store,
        host: str,
        port: int,
        upstream: Upstream | None = None,
        writing: Writing | None = None,
    ) -> None:
        self.store = store
        self.upstream = upstream
        self.writing = writing
        self._open: Counter[str] = Counter()
        self._opening = Lock()
        self.address_family = AF_INET6 if ":" in host else AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as exc:
            raise cannot_listen(host, port, exc) from exc

    @property
    def address(self) -> str:
        """Where it listens, as an address."""
        return http_url(str(self.server_address[0]), self.server_address[1])

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(str(self.server_address[0]))

    def server_bind(self) -> None:
        """Binds without looking our own name up, which can take seconds and is of no use."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Answers in a thread; closes what is more than one client may have, or all of them."""
        client = client_address[0]
        with self._opening:
            there, every = self._open[client], self._open.total()
            is_more = there >= self.most_of_one or every >= self.most_connections
            if not is_more:
                self._open[client] += 1
        if is_more:
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._closed(client)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Answers, and counts the end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._closed(client_address[0])

    def _closed(self, client: str) -> None:
        with self._opening:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        """A client that goes away is not worth a traceback."""
        _log.info("a client closed the connection", exc_info=True)


@contextmanager
def sharing(
    store: Store,
    host: str = "127.0.0.1",
    port: int = 0,
    upstream: Upstream | None = None,
    writing: Writing | None = None,
) -> Iterator[ShareServer]:
    """The block in which the store is shared, by a thread of this process.

    Raises:
        PortInUseError: The port is taken.
    """
    with ShareServer(store, host, port, upstream, writing) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), name="share", daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "modelrunner"
    sys_version = ""
    timeout: ClassVar[float | None] = 60.0
    wbufsize = _CHUNK
    # the head of an answer and its body are two packets: the second must not wait for a receipt
    disable_nagle_algorithm = True
    server: ShareServer
    _is_last = False

    def setup(self) -> None:
        """Counts the connection."""
        super().setup()
        if self.server.upstream is not None:
            self.server.upstream.connected(self.client_address[0], 1)

    def finish(self) -> None:
        """Counts the connection's end."""
        if self.server.upstream is not None:
            self.server.upstream.connected(self.client_address[0], -1)
        super().finish()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer_writing()

    do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815

    def _answer_writing(self) -> None:
        if self.server.writing is None:
            self.close_connection = True
            self._refuse(
                RefusalError(
                    HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only"
                )
            )
        else:
            self._say(self._write)

    def _answer(self) -> None:
        self._say(self._route)

    def _write(self) -> None:
        """Does what writes; what was not read of a body ends the connection."""
        writing, headers = self.server.writing, self._lower_headers
        if writing is None or not self.path.startswith("/v2/"):
            raise RefusalError(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "not found")
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        body = body_of(headers, self.rfile)
        path = unquote(parts.path).removeprefix("/v2/")
        first = {name: values[0] for name, values in query.items()}
        try:
            if self.command != "GET":
                check_writer(headers, writing.key)
            done = writing.answer(Asked(self.command, path, first, headers, lambda: body, query))
        finally:
            # a client that is still sending would not see the answer
            self.close_connection = self._is_last or not all_read(body)
        more = {} if done.status is HTTPStatus.NO_CONTENT else {"Content-Length": "0"}
        self._head(done.status, {**done.headers, **more})

    @property
    def _lower_headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    @property
    def _has_body(self) -> bool:
        said = self.headers.get("Content-Length", "0").strip() != "0"
        return said or "Transfer-Encoding" in self.headers

    def _say(self, answer: Callable[[], None]) -> None:
        self._is_last = self.close_connection
        # what is not read of a body would be taken for the next request: a web page could write
        # one into its own, without the headers that say that it is a page's
        self.close_connection |= self._has_body
        try:
            self._check_host()
            answer()
        except RefusalError as exc:
            self._refuse(exc)
        except ModelRunnerError as exc:
            refusal = refusal_for(exc)
            # what a registry says is for its client; that the store is damaged is for us
            is_ours = refusal.status is HTTPStatus.INTERNAL_SERVER_ERROR
            _log.log(logging.WARNING if is_ours else logging.INFO, "%s", exc)
            self._refuse(refusal)

    def _check_host(self) -> None:
        """A web page must not read the store through a name that it points at this machine."""
        said = self.headers.get("Host", "")
        if said and self.server.is_private and not is_loopback(host_in(said) or ""):
            raise RefusalError(
                HTTPStatus.FORBIDDEN,
                "DENIED",
                "this server accepts requests from this machine only",
            )

    def _route(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
        if path in ("/v2", "/v2/"):
            self._send_json({})
        elif path == "/metrics" and self.server.upstream is not None:
            kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
            self._send_raw(self.server.upstream.metrics().encode(), HTTPStatus.OK, kind)
        elif path == "/v2/_catalog":
            upstream = self.server.upstream
            more = [] if upstream is None else [*upstream.repositories()]
            namespace, writing = _namespace(query), self.server.writing
            names = catalog(self.server.store, namespace, more)
            if writing is not None and namespace is None:
                pushed = writing.content.names()
                # the store may have what was pushed here under its full name: that is one model
                own = {f"{self.headers.get('Host', '')}/{name}" for name in pushed}
                names = sorted({*names, *pushed} - own)
            self._send_page("repositories", names, query, {})
        elif _UPLOAD.fullmatch(path):
            self._write()
        else:
            match = _ROUTE.fullmatch(path)
            if match is None:
                raise RefusalError(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "not found")
            self._content(match["repository"], match["kind"], match["name"], query)

    def _content(self, path: str, kind: str, name: str, query: Mapping[str, list[str]]) -> None:
        upstream, namespace = self.server.upstream, _namespace(query)
        writing = self.server.writing
        pushed = None if writing is None or namespace is not None else writing.readable(path)
        if writing is not None and pushed is not None:
            self._pushed(writing, pushed, kind, name, query)
            return
        place = None if upstream is None else place_behind(path, namespace, upstream.serves)
        if upstream is not None and place is not None:
            self._fetched(upstream, Reference(*place, None), path, kind, name, query)
            return
        if upstream is not None and path == ANY_REPOSITORY and self._kept(upstream, kind, name):
            return
        unknown = writing is not None and namespace is None and not writing.is_taken(path)
        if unknown and kind == "referrers":
            # what something refers to need not have been pushed yet
            checked_digest(name)
            self._send_referrers(list_of(()), query)
            return
        found = repository(self.server.store, path, namespace)
        if kind == "tags" and name == "list":
            self._send_page("tags", found.tags(), query, {"name": path})
        elif kind == "manifests":
            self._send_manifest(found.manifest(name))
        elif kind == "blobs":
            digest = found.blob(name)
            self._send_blob(digest, self._stored(digest))
        elif kind == "referrers":
            digest = found.digest(name)
            self._send_referrers(list_of(each.to_dict() for each in found.referrers(digest)), query)
        else:
            raise RefusalError(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "not found")

    def _fetched(
        self,
        upstream: Upstream,
        reference: Reference,
        path: str,
        kind: str,
        name: str,
        query: Mapping[str, list[str]],
    ) -> None:
        """Answers from a registry behind this server, and from what is kept of it."""
        local = local_part(self.server.store, reference)
        if kind == "tags" and name == "list":
            tags = list(upstream.tags(reference, local))
            self._send_page("tags", tags, query, {"name": path})
        elif kind == "manifests":
            self._send_manifest(upstream.manifest(local.named(reference, name), local))
        elif kind == "blobs":
            digest = local.digest(name)
            try:
                content: Content = self._stored(local.blob(name))
            except RefusalError:
                content = upstream.blob(reference, digest)
            self._send_blob(digest, content)
        elif kind == "referrers":
            pinned = reference.with_digest(local.digest(name))
            self._send_referrers(upstream.referrers(pinned, local), query)
        else:
            raise RefusalError(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "not found")

    def _pushed(
        self,
        writing: Writing,
        found: Pushed,
        kind: str,
        name: str,
        query: Mapping[str, list[str]],
    ) -> None:
        """Answers with what was pushed to this server."""
        content = writing.content
        if kind == "tags" and name == "list":
            self._send_page("tags", sorted(found.tags), query, {"name": found.name})
        elif kind == "manifests":
            digest = found.resolve(name)
            if digest is None:
                raise RefusalError(
                    HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"manifest not found: {name}"
                )
            media_type = str(found.manifests[digest]["mediaType"])
            self._send_manifest_bytes(content.manifest(digest), media_type, digest)
        elif kind == "blobs":
            size = size_of(content.path(name)) if name in found.blobs else None
            if size is None:
                raise unknown_blob(name)
            self._send_blob(name, WholeFile(content.path(name), size))
        elif kind == "referrers":
            self._send_referrers(list_of(found.referrers(checked_digest(name))), query)
        else:
            raise RefusalError(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "not found")

    def _kept(self, upstream: Upstream, kind: str, name: str) -> bool:
        """Answers with what is kept of a registry, by its digest; whether there is something."""
        if kind not in ("manifests", "blobs") or not name.startswith("sha256:"):
            return False
        local = local_part(self.server.store, Reference("", ANY_REPOSITORY, None))
        digest = local.digest(name)
        found = upstream.kept(digest)
        if isinstance(found, Manifest | Index) and kind == "manifests":
            self._send_manifest(found)
        elif found is not None and not isinstance(found, Manifest | Index) and kind == "blobs":
            self._send_blob(digest, found)
        else:
            return False
        return True

    def _stored(self, digest: Digest) -> WholeFile:
        path = self.server.store.blobs.path(digest)
        try:
            return WholeFile(path, path.stat().st_size)
        except FileNotFoundError as exc:
            raise unknown_blob(str(digest)) from exc

    def _send_referrers(self, index: bytes, query: Mapping[str, list[str]]) -> None:
        """An image index, also where nothing refers to the manifest."""
        headers = {"Content-Type": media_types.OCI_INDEX}
        wanted = query.get("artifactType")
        if wanted is not None:
            entries = json.loads(index)["manifests"]  # trusted: made by `list_of`
            index = list_of(each for each in entries if each.get("artifactType") in wanted)
            headers["OCI-Filters-Applied"] = "artifactType"
        self._send_raw(index, HTTPStatus.OK, headers)

    def _send_manifest(self, manifest: Manifest | Index) -> None:
        self._send_manifest_bytes(manifest.raw, manifest.media_type, str(manifest.digest))

    def _send_manifest_bytes(self, raw: bytes, media_type: str, digest: str) -> None:
        self._head(
            HTTPStatus.OK,
            {
                "Content-Type": media_type,
                "Content-Length": str(len(raw)),
                "Docker-Content-Digest": digest,
                "ETag": f'"{digest}"',
            },
        )
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _send_blob(self, digest: Digest | str, content: Content) -> None:
        size = content.size
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": str(digest),
            "ETag": f'"{digest}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": "public, max-age=31536000, immutable",
        }
        span = self._span(size, str(digest))
        if span is None:
            start, count, status = 0, size, HTTPStatus.OK
        else:
            start, count = span
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{start + count - 1}/{size}"
        headers["Content-Length"] = str(count)
        if self.command == "HEAD":
            self._head(status, headers)
        elif isinstance(content, WholeFile):
            self._copy(content.path, digest, (start, count), (status, headers))
        else:
            with content.follow() as passage:
                pieces = passage.read_from(start, count)
                # what goes wrong before the first byte can be said in words
                first = next(pieces, b"")
                self._head(status, {**headers, media_types.HEADER_ARRIVING: "yes"})
                self._pass_on(first, pieces)

    def _pass_on(self, first: bytes | memoryview, rest: Iterator[bytes | memoryview]) -> None:
        """Sends what arrives; where it ends too early, so does the connection."""
        try:
            for piece in chain((first,), rest):
                self.wfile.write(piece)
                self.wfile.flush()
                self._count(len(piece))
        except ModelRunnerError as exc:
            _log.info("%s", exc)
            self.close_connection = True

    def _count(self, count: int) -> None:
        if self.server.upstream is not None:
            self.server.upstream.served(count, self.client_address[0])

    def _span(self, size: int, digest: str) -> tuple[int, int] | None:
        """Start and length of the range that was asked for, None for the whole."""
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if match is None or (condition and condition.strip('"') != digest):
            return None
        first, last = match[1], match[2]
        # bounded: eighteen digits, see `_RANGE` and `_COUNT`
        if (not first and not last) or (first and last and int(last) < int(first)):
            # no range as the specification writes them: as if none was asked for
            return None
        if not first:
            # bounded: eighteen digits, see `_RANGE` and `_COUNT`
            start, end = max(0, size - int(last)), size - 1
        else:
            # bounded: eighteen digits, see `_RANGE` and `_COUNT`
            start, end = int(first), min(int(last) if last else size - 1, size - 1)
        if start >= size:
            raise RefusalError(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "SIZE_INVALID", f"bytes */{size}"
            )
        return start, end - start + 1

    def _copy(
        self,
        path: Path,
        digest: Digest | str,
        part: tuple[int, int],
        head: tuple[HTTPStatus, Mapping[str, str]],
    ) -> None:
        try:
            file = open_content(path)
        except FileNotFoundError as exc:
            # removed in this moment
            raise unknown_blob(str(digest)) from exc
        with file:
            self._head(*head)
            self.wfile.flush()
            # the kernel copies from the file to the socket; no byte passes through here
            if part[1]:
                self._count(self.connection.sendfile(file, *part))

    def _send_page(
        self,
        key: str,
        names: list[str],
        query: Mapping[str, list[str]],
        more: Mapping[str, object],
    ) -> None:
        last = query.get("last", [""])[0]
        text = query.get("n", [""])[0]
        names = [name for name in names if name > last]
        # bounded: eighteen digits, see `_RANGE` and `_COUNT`
        limit = int(text) if _COUNT.fullmatch(text) else len(names)
        page, headers = names[:limit], {}
        if len(names) > limit and page:
            namespace = _namespace(query)
            more_query = f"n={limit}&last={quote(page[-1], safe='')}" + (
                "" if namespace is None else f"&ns={quote(namespace, safe='')}"
            )
            headers["Link"] = f'<{self.path.partition("?")[0]}?{more_query}>; rel="next"'
        self._send_json({**more, key: page}, headers=headers)

    def _send_json(
        self,
        value: object,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        sent = {"Content-Type": "application/json", **(headers or {})}
        self._send_raw(json.dumps(value).encode(), status, sent)

    def _send_raw(self, raw: bytes, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self._head(status, {**headers, "Content-Length": str(len(raw))})
        if self.command != "HEAD":
            self.wfile.write(raw)

    def _refuse(self, refusal: RefusalError) -> None:
        headers = dict(refusal.headers)
        if refusal.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and not headers:
            headers["Content-Range"] = refusal.message
        if refusal.status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = "GET, HEAD"
        if self.close_connection:
            headers["Connection"] = "close"
        if refusal.retry_after_s is not None:
            headers["Retry-After"] = str(ceil(refusal.retry_after_s))
        error = {"code": refusal.code, "message": refusal.message, "detail": refusal.detail}
        self._send_json({"errors": [error]}, refusal.status, headers)

    def _head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are for `--debug`."""
        _log.info(format, *args)


def _namespace(query: Mapping[str, list[str]]) -> str | None:
    """The registry that `?ns=` names, as it is written.

    Raises:
        RefusalError: Several are named.
    """
    said = query.get("ns")
    if said is None:
        return None
    if len(set(said)) > 1:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "NAME_INVALID", "ns is given more than once")
    return said[0]
