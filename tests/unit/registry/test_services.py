"""Requests to services have bounds: where they go, and how large and how late an answer is."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modelrunner.errors import ConfigError, InterruptedTransferError, TransferError
from modelrunner.registry.http.retry import NO_RETRY, Backoff
from modelrunner.registry.services import ServiceClient

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The block in which a server sends these bytes, and then waits."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)
                over.wait(60)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def test_an_answer_that_does_not_come_to_its_end_is_given_up() -> None:
    with (
        answering(HEAD + b"some") as url,
        pytest.raises(InterruptedTransferError, match="takes longer than 0 s"),
    ):
        ServiceClient(None, NO_RETRY, answer_s=0).ask(url, headers={}, content=b"x")


def test_an_answer_has_no_more_time_than_the_command() -> None:
    # for the request, and then for the answer
    left = iter([5.0, 0.0])

    class Impatient(Backoff):
        def remaining_s(self) -> float:
            return next(left)

    with (
        answering(HEAD + b"some") as url,
        pytest.raises(InterruptedTransferError, match="takes longer than 0 s"),
    ):
        ServiceClient(None, Impatient()).ask(url, headers={}, content=b"x")


def test_an_answer_in_chunks_is_read_as_it_is() -> None:
    head = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nContent-Type: a/b\r\n\r\n"
    with answering(head + b"4\r\nsome\r\n6\r\n bytes\r\n0\r\n\r\n") as url:
        found = ServiceClient(None, NO_RETRY).ask(url, path="/x", headers={}, content=b"x")

    assert (found.status, found.body, found.headers["Content-Type"]) == (201, b"some bytes", "a/b")


def test_an_answer_that_breaks_off_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(HEAD + b"some")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(TransferError):
            ServiceClient(None, NO_RETRY).ask(
                f"http://127.0.0.1:{server.getsockname()[1]}", headers={}
            )
        thread.join()


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "https://", "https://me@x", "https://[x", "x", "http://example.com", "https://x:y"],
)
def test_what_is_no_address_of_a_service_is_told(url: str) -> None:
    with pytest.raises(ConfigError):
        ServiceClient(None, NO_RETRY).ask(url, headers={})
