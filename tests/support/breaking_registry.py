"""A registry that loses connections in the middle of uploads, and keeps what has come."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.registry import sha256


class BreakingRegistry:
    """A registry that loses the connection after some bytes of an upload, and keeps those.

    Args:
        after: The bytes of a request after which the connection is lost.
        times: How often that happens.
        tells: Whether it says how much of an upload it has.
        takes: Whether it takes the rest of one.
        loses_answers: Whether the connection is lost when all has been stored.
    """

    def __init__(self, after, times=1, *, tells=True, takes=True, loses_answers=False):
        self.after, self.times = after, times
        self.tells, self.takes, self.loses_answers = tells, takes, loses_answers
        self.lock = threading.Lock()
        self.sessions, self.blobs, self.log = {}, {}, []

    def __enter__(self):
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self):
                registry.answer(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = respond  # noqa: N815

            def log_message(self, *arguments):
                """Nothing is logged."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        return self

    def __exit__(self, *_exception):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, handler):
        method, path = handler.command, handler.path
        length = int(handler.headers.get("Content-Length", 0))
        digest = re.search("sha256:[0-9a-f]{64}", path)
        session = re.search("/uploads/([0-9]+)", path)
        if "/manifests/" in path:
            handler.rfile.read(length)
            self.reply(handler, 201 if method == "PUT" else 404)
        elif session is None:
            if method == "POST":
                with self.lock:
                    self.sessions[number := str(len(self.sessions))] = bytearray()
                self.reply(handler, 202, Location=f"/v2/up/blobs/uploads/{number}")
            else:
                self.reply(handler, 200 if digest and digest[0] in self.blobs else 404)
        else:
            self.proceed(handler, self.sessions[session[1]], session[1], digest, length)

    def proceed(self, handler, content, number, digest, length):
        method = handler.command
        span = handler.headers.get("Content-Range")
        if length or method == "GET":
            self.log.append((method, span) if length else (method, len(content)))
        where = {"Location": f"/v2/up/blobs/uploads/{number}", "Range": f"0-{len(content) - 1}"}
        if method == "GET":
            self.reply(handler, 204 if self.tells else 404, **where)
            return
        if method == "PATCH" and not self.takes:
            handler.rfile.read(length)
            self.reply(handler, 405)
            return
        if span is not None:
            assert int(span.partition("-")[0]) == len(content)
        broken = length > self.after and self.times > 0
        content += handler.rfile.read(self.after if broken else length)
        if broken:
            self.times -= 1
        elif method == "PUT":
            assert digest is not None
            assert sha256(bytes(content)) == digest[0]
            self.blobs[digest[0]] = bytes(content)
            broken, self.loses_answers = self.loses_answers and bool(length), False
        if broken:
            handler.close_connection = True
            handler.connection.shutdown(2)
        elif method == "PUT":
            self.reply(handler, 201)
        else:
            self.reply(handler, 202, **where)

    def reply(self, handler, status, **headers):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
