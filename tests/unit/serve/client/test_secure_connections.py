"""HTTPS of the server's own: real handshakes over real sockets."""

import json
import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from urllib.parse import urlsplit

import pytest

from modelrunner.errors import RuntimeFailedError
from modelrunner.runtime.child import probe
from modelrunner.serve.client.connections import Connection
from modelrunner.serve.client.limits import Limits
from modelrunner.serve.process.certificate import Certificate
from tests.support.chunked import mixed_chunks
from tests.support.openai_server import says
from tests.support.registry_tls import Certificate as Files
from tests.support.registry_tls import can_make_certificates
from tests.support.serving import Running, Scripted, gateway, model
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not can_make_certificates(), reason="no openssl command")

ONE = model("ai/one")


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    made = Files.make()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def certificate(files: Files) -> Certificate:
    return Certificate.load(files.file, files.key)


@contextmanager
def raw(running: Running) -> Iterator[socket.socket]:
    parts = urlsplit(running.url)
    with closing(socket.create_connection((parts.hostname, parts.port), timeout=20)) as client:
        yield client


def trusting(files: Files) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.file))


@contextmanager
def trusted(running: Running, files: Files) -> Iterator[ssl.SSLSocket]:
    with (
        raw(running) as plain,
        trusting(files).wrap_socket(plain, server_hostname="localhost") as client,
    ):
        yield client


def everything(client: socket.socket) -> bytes:
    found = b""
    while piece := client.recv(65536):
        found += piece
    return found


def test_a_client_that_trusts_the_certificate_is_answered(
    files: Files, certificate: Certificate
) -> None:
    with gateway(Scripted(), ONE, certificate=certificate) as running:
        assert running.url.startswith("https://127.0.0.1:")
        with trusted(running, files) as client:
            for last in (False, True):
                ending = b"Connection: close\r\n" if last else b""
                client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + ending + b"\r\n")
                if not last:
                    assert client.recv(65536).startswith(b"HTTP/1.1 200")
            assert everything(client).endswith(b'{"status":"ok"}')


def test_the_page_and_streams_are_as_without(certificate: Certificate) -> None:
    runtime = Scripted(scripts={"ai/one:latest": [says("Hello", "there")]})
    with gateway(runtime, ONE, certificate=certificate) as running:
        page = running.get("/").body.decode()
        assert f"OPENAI_BASE_URL={running.url}/v1\n" in page
        asked = {"model": "one", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        streamed = running.post("/v1/chat/completions", asked)
        assert streamed.status == 200
        assert streamed.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("size", [100, 20_000, 3_000_000])
def test_bodies_of_every_size_arrive_whole(certificate: Certificate, size: int) -> None:
    runtime = Scripted()
    text = "w" * size
    with gateway(runtime, ONE, certificate=certificate) as running:
        assert running.chat("one", text).status == 200
        (request,) = runtime.last.answers.requests
    assert request.body["messages"][0]["content"] == text


def test_a_body_in_small_chunks_arrives_whole(files: Files, certificate: Certificate) -> None:
    runtime = Scripted()
    text = "abc" * 2000
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % each for each in body) + b"0\r\n\r\n"
    with (
        gateway(runtime, ONE, certificate=certificate) as running,
        trusted(running, files) as client,
    ):
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
        )
        assert everything(client).startswith(b"HTTP/1.1 200")
        (request,) = runtime.last.answers.requests
    assert request.body["messages"][0]["content"] == text


def test_a_body_in_large_and_small_chunks_arrives_whole(
    files: Files, certificate: Certificate
) -> None:
    runtime = Scripted()
    with (
        gateway(runtime, ONE, certificate=certificate) as running,
        trusted(running, files) as client,
    ):
        head, text = mixed_chunks()
        client.sendall(head)
        assert everything(client).startswith(b"HTTP/1.1 200")
        (request,) = runtime.last.answers.requests
    assert request.body["messages"][0]["content"] == text


def test_a_client_without_a_handshake_is_let_go(certificate: Certificate) -> None:
    hurried = Limits(headers_s=0.3)
    with gateway(Scripted(), ONE, certificate=certificate, limits=hurried) as running:
        with raw(running) as client:
            assert everything(client) == b""
        with raw(running) as client:
            client.sendall(b"\x16\x03\x01")
            assert everything(client) == b""


def test_those_who_begin_a_handshake_leave_room_for_others(certificate: Certificate) -> None:
    limits = Limits(waiting=4)
    with (
        gateway(Scripted(), ONE, certificate=certificate, limits=limits) as running,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(raw(running)) for _ in range(12)]
        wait_until(lambda: len(select.select(clients, [], [], 0)[0]) >= 8)
        assert running.get("/health").status == 200


def test_plain_http_is_closed_and_others_are_served(certificate: Certificate) -> None:
    with gateway(Scripted(), ONE, certificate=certificate) as running:
        with raw(running) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP" not in everything_or_reset(client)
        assert running.get("/health").status == 200


def everything_or_reset(client: socket.socket) -> bytes:
    try:
        return everything(client)
    except ConnectionResetError:
        return b""


def test_what_tls_hands_on_at_once_is_parsed_in_pieces(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    usual = Connection.data_received

    def noted(self: Connection, data: bytes) -> None:
        sizes.append(len(data))
        usual(self, data)

    monkeypatch.setattr(Connection, "data_received", noted)
    with gateway(Scripted(), ONE, certificate=certificate) as running:
        assert running.chat("one", "w" * 1_000_000).status == 200
    assert sum(sizes) > 1_000_000
    assert max(sizes) <= 64 * 1024


def test_a_server_is_known_by_its_certificate_and_another_is_asked_nothing(
    certificate: Certificate,
) -> None:
    runtime = Scripted()
    asked = {"model": "one", "messages": [{"role": "user", "content": "hi"}]}
    with gateway(runtime, ONE, certificate=certificate) as running:
        url = f"{running.url}/v1/chat/completions"

        def status(fingerprint: str) -> int | None:
            answer = probe.post(url, asked, api_key="", timeout_s=20, fingerprint=fingerprint)
            return None if answer is None else answer.status

        assert status("0" * 64) is None
        assert runtime.started == []
        assert status(certificate.fingerprint) == 200
        with pytest.raises(RuntimeFailedError, match="certificate not trusted"):
            probe.post(url, asked, api_key="", timeout_s=20)
