"""A proxy before a registry that breaks answers off, as some do after a time or a number of bytes.

    with cutting(folder, registry, "half") as address:
        ...

What a client asks for is passed on, and so is the answer, with its head as it is; only its body
ends too early, with the connection. What is shorter than 64 KiB comes whole. This file run as a
program is the proxy.
"""

import argparse
import re
import socket
import socketserver
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.servers import Address, free_port, running

_SPARED = 64 * 1024
_BLOCK = 256 * 1024


@contextmanager
def cutting(folder: Path, registry: Address, where: str) -> Iterator[Address]:
    """The block in which the proxy runs.

    Args:
        folder: For its log.
        registry: What is behind it.
        where: Where answers end: "half", a number of bytes, or "never".
    """
    port = free_port()
    command = [sys.executable, __file__, str(port), str(registry.port), where]
    with running(command, port, folder / f"cutting-{where}.log"):
        yield Address(port)


class _Handler(socketserver.BaseRequestHandler):
    """One connection of a client, with one of its own to the registry."""

    upstream: int
    where: str

    def handle(self) -> None:
        client: socket.socket = self.request
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with socket.create_connection(("127.0.0.1", self.upstream)) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while head := _head(client):
                    server.sendall(head[0] + head[1])
                    if not self._answer(client, server, head[0].partition(b" ")[0]):
                        return
            except OSError:
                # one of both has gone
                return

    def _answer(self, client: socket.socket, server: socket.socket, method: bytes) -> bool:
        """Passes an answer on; whether it was whole."""
        found = _head(server)
        if found is None:
            return False
        head, begun = found
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        left = 0 if method == b"HEAD" or length is None else int(length[1])
        most = self._most(left)
        client.sendall(head + begun[:most])
        passed = len(begun)
        buffer = memoryview(bytearray(_BLOCK))
        while passed < most:
            count = server.recv_into(buffer[: most - passed])
            if not count:
                return False
            client.sendall(buffer[:count])
            passed += count
        return most == left

    def _most(self, length: int) -> int:
        if length <= _SPARED or self.where == "never":
            return length
        return length // 2 if self.where == "half" else min(length, int(self.where))


def _head(sock: socket.socket) -> tuple[bytes, bytes] | None:
    """A head, and what came of the body with it; None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return None
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("upstream", type=int)
    parser.add_argument("where")
    arguments = parser.parse_args()
    own = {"upstream": arguments.upstream, "where": arguments.where}
    _Server(("127.0.0.1", arguments.port), type("Handler", (_Handler,), own)).serve_forever()


if __name__ == "__main__":
    _main()
