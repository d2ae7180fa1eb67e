"""Who copies the bytes of an upload: this process to where the copy stays, the kernel elsewhere."""

import socket
from threading import Thread

import pytest

from modelrunner.errors import CorruptStoreError
from modelrunner.registry.http.file_body import FileSlice

MIB = 1024 * 1024
CONTENT = bytes(range(251)) * (3 * MIB // 251)


class Counting(socket.socket):
    """A socket that counts what the kernel reads from files itself."""

    by_kernel = 0

    def sendfile(self, *arguments, **named):
        """Send a file, and note how much of it."""
        count = super().sendfile(*arguments, **named)
        self.by_kernel += count
        return count


class Receiver:
    """Takes one connection, and all that comes over it."""

    def __init__(self, address):
        self.received = bytearray()
        self._listener = socket.create_server((address, 0))
        self.address = self._listener.getsockname()
        self._thread = Thread(target=self._receive)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._thread.join()
        self._listener.close()

    def _receive(self):
        connection, _ = self._listener.accept()
        with connection:
            while piece := connection.recv(MIB):
                self.received += piece


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(CONTENT)
    with path.open("rb", buffering=0) as opened:
        yield opened


# on Linux all of 127.0.0.0/8 is there: two of its addresses look like two machines
@pytest.mark.parametrize(
    ("source", "target", "by_kernel"),
    [("127.0.0.1", "127.0.0.1", 0), ("127.0.0.1", "127.0.0.2", 2 * MIB + 7)],
)
def test_a_file_is_copied_here_where_it_stays_on_this_machine(file, source, target, by_kernel):
    with Receiver(target) as receiver, Counting() as connection:
        connection.bind((source, 0))
        connection.connect(receiver.address)
        FileSlice(file, 5, 2 * MIB + 7).send(connection)
    assert receiver.received == CONTENT[5 : 2 * MIB + 12]
    assert connection.by_kernel == by_kernel


@pytest.mark.parametrize("target", ["127.0.0.1", "127.0.0.2"])
def test_a_file_that_became_shorter_is_an_error(file, target):
    with Receiver(target) as receiver, socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        connection.connect(receiver.address)
        with pytest.raises(CorruptStoreError, match="became shorter"):
            FileSlice(file, MIB, 3 * MIB).send(connection)
    assert receiver.received == CONTENT[MIB:]


def test_a_connection_that_is_gone_is_the_networks_error(file):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = socket.create_connection(listener.getsockname())
        listener.accept()[0].close()
    whole = FileSlice(file, 0, len(CONTENT))
    # more than any buffer on the way holds
    with connection, pytest.raises(OSError, match=r"reset|[Bb]roken pipe|not connected"):
        _send_often(whole, connection)


def _send_often(part, connection):
    for _time in range(20):
        part.send(connection)
