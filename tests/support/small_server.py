"""A program that takes llama-server's options and answers as it does, without a model.

What is asked of a runtime's server is its part; what a model says has tests of its own.
"""

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """`/health`, `/props`, `/v1/models`, and one answer to every chat."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send({"status": "ok"})
        elif self._may_ask():
            self._send({"data": [], "default_generation_settings": {"n_ctx": 512}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self._may_ask():
            self._send({"choices": [{"message": {"role": "assistant", "content": "Hello."}}]})

    def _may_ask(self) -> bool:
        if self.headers["Authorization"] == f"Bearer {os.environ['LLAMA_API_KEY']}":
            return True
        self._send({"error": "no key"}, 401)
        return False

    def _send(self, body: object, status: int = 200) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def main() -> None:
    if "--version" in sys.argv:
        sys.stderr.write("version: 1 (small)\n")
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    known, _ = parser.parse_known_args()
    ThreadingHTTPServer(("127.0.0.1", known.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
