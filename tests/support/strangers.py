"""Strangers that say one thing whatever they are asked: servers, and programs on PATH."""

import shlex
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOST = 1 << 16


@contextmanager
def parrot(answer: bytes) -> Iterator[str]:
    """The block in which a server sends these bytes to whoever asks it anything; its address."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            # the head alone: whoever sends more is answered before
            while self.rfile.readline(_MOST).strip():
                pass
            self.wfile.write(answer)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def program(path: Path, *, prints: str = "", complains: str = "", code: int = 0) -> Path:
    """A program that reads nothing and says this."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "#!/bin/sh\n"
        f"printf %s {shlex.quote(prints)}\n"
        f"printf %s {shlex.quote(complains)} >&2\n"
        f"exit {code}\n"
    )
    path.chmod(0o755)
    return path
