"""An address that answers nobody, as behind a firewall that drops what it does not like."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_address() -> Iterator[tuple[str, int]]:
    """The block in which a host and port let every connection wait.

    The queue of who listens there is full, and nobody takes anything from it.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        waiting = [socket.socket() for _ in range(8)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(server.getsockname())
            yield server.getsockname()
        finally:
            for each in waiting:
                each.close()
