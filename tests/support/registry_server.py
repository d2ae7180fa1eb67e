"""An HTTP/1.1 server on loopback, in threads: it remembers every request and ends without a trace.

What it answers is a subclass's business (`classify`, `respond`); how it misbehaves is `Faults`'.
"""

import contextlib
import socket
import ssl
import struct
import sys
import threading
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from tests.support.registry_fault import HangUp
from tests.support.registry_faults import Faults
from tests.support.registry_messages import Reply, Request
from tests.support.registry_tls import Certificate

_SINGULAR = {"blobs": "blob", "manifests": "manifest", "uploads": "upload", "tokens": "token"}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Origin(Faults):
    """A server with an address; use it as a context manager.

    Args:
        host: The name in its URLs. It listens on 127.0.0.1 whatever the name.
        tls: Speak TLS, with a certificate made for the occasion.
    """

    def __init__(self, *, host: str = "127.0.0.1", tls: bool = False) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.port = 0
        self._name = host
        self._certificate = Certificate.make() if tls else None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`, as it stands in references and URLs."""
        return f"{self._name}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://{self.host}"

    @property
    def ca_file(self) -> Path:
        """The certificate to trust."""
        if self._certificate is None:
            raise LookupError("this server speaks no TLS")
        return self._certificate.file

    def classify(self, request: Request) -> None:
        """Fill in what the request is about."""

    def respond(self, request: Request) -> Reply:
        """The right answer."""
        raise NotImplementedError

    def count(self, method: str | None = None, kind: str | None = None) -> int:
        """How many requests there were, of a method, of a kind (`blobs`, `manifests`, ...)."""
        return len(self.requests_of(method, kind))

    def requests_of(self, method: str | None = None, kind: str | None = None) -> list[Request]:
        wanted = None if kind is None else _SINGULAR.get(kind, kind)
        return [
            request
            for request in list(self.requests)
            if method in {None, request.method} and wanted in {None, request.kind}
        ]

    def bytes_sent(self, digest: str | None = None) -> int:
        """Bytes of blob bodies handed to sockets, of one blob or of all."""
        return sum(
            request.sent
            for request in self.requests_of(None, "blob")
            if digest in {None, request.reference}
        )

    def connections(self, kind: str | None = None) -> int:
        """How many connections carried these requests."""
        return len({request.connection for request in self.requests_of(None, kind)})

    def forget(self) -> None:
        """Empty the log."""
        self.requests.clear()

    def start(self) -> None:
        """Listen; after `close`, again on the same port."""
        self._closing.clear()
        self._server = _Server(self, self.port, self._certificate)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name=f"origin {self.host}"
        )
        self._thread.start()

    def close(self) -> None:
        """End every connection and thread.

        Raises:
            ExceptionGroup: The server itself had failed, which no client should be blamed for.
        """
        if self._server is None or self._thread is None:
            return
        server, self._server = self._server, None
        self._closing.set()
        server.shutdown()
        server.drop_connections()
        server.server_close()
        self._thread.join()
        if server.failures:
            raise ExceptionGroup(f"{type(self).__name__} failed", server.failures)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if self._certificate:
            self._certificate.remove()

    def handle(self, request: Request) -> Reply:
        """The answer, right or wrong.

        Raises:
            HangUp: There is to be none.
        """
        self.requests.append(request)
        hindrance = self.hinder(request)
        return hindrance or self.distort(request, self.respond(request))


class _Server(ThreadingHTTPServer):
    # threads are joined when the server closes, so that no test leaves one behind
    daemon_threads = False
    request_queue_size = 256

    def __init__(self, origin: Origin, port: int, certificate: Certificate | None) -> None:
        self.origin = origin
        self.failures: list[Exception] = []
        self._context = certificate.server_context() if certificate else None
        self._open: set[socket.socket] = set()
        self._resets: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._context:
            # the handshake belongs to the connection's own thread: a silent client blocks no other
            connection = self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self._lock:
            self._open.add(connection)
        return connection, address

    def reset(self, connection: socket.socket) -> None:
        """Make the closing of this connection a reset."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        with self._lock:
            self._resets.add(connection)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
            reset = request in self._resets
            self._resets.discard(request)
        if reset:
            # an orderly end first would hide the reset
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def drop_connections(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    # the plain socket's method: TLS objects are not to be touched from here
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        failure = sys.exception()
        if isinstance(failure, OSError) or self.origin._closing.is_set():
            return  # clients go when they like
        if isinstance(failure, Exception):
            self.failures.append(failure)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "support-registry"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def handle_request(self) -> None:
        server = cast(_Server, self.server)
        request = self._read_request()
        # what stands in for `handle` in a test may ask for it
        server.origin.classify(request)
        try:
            reply = server.origin.handle(request)
            self._send(request, reply, server.origin)
        except HangUp as order:
            self.close_connection = True
            if order.reset:
                server.reset(self.connection)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Say nothing: the log is `Origin.requests`."""

    def _read_request(self) -> Request:
        headers = cast(HTTPMessage, self.headers)
        if "chunked" in headers.get("Transfer-Encoding", "").lower():
            body = self._read_chunks()
        else:
            body = self._read_exactly(int(headers.get("Content-Length", 0)))
        return Request(self.command, self.path, headers, body, self.client_address[1])

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            body += self._read_exactly(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return bytes(body)

    def _read_exactly(self, size: int) -> bytes:
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionAbortedError("the client left in the middle of its request")
        return body

    def _send(self, request: Request, reply: Reply, origin: Origin) -> None:
        request.status = reply.status
        # a Date of its own takes the place of the usual one
        self.send_response_only(reply.status)
        self.send_header("Server", self.version_string())
        if "Date" not in reply.headers:
            self.send_header("Date", self.date_time_string())
        bodiless = reply.status in {204, 304}
        for name, value in reply.headers.items():
            self.send_header(name, value)
        chunked = reply.length is None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif not bodiless and "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(reply.length))
        self.end_headers()
        if request.method == "HEAD" or bodiless:
            return
        for part in origin.conduct(request, reply).slices(reply.pieces()):
            # counted first: who has read the last byte must find it counted
            request.sent += len(part)
            self.connection.sendall(_chunk(part) if chunked else part)
        if chunked:
            self.connection.sendall(b"0\r\n\r\n")


def _chunk(part: memoryview) -> bytes:
    return b"".join((b"%x\r\n" % len(part), part, b"\r\n"))
