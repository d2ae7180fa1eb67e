"""Clients that hold connections and say nothing, or too much, over real sockets."""

import json
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from urllib.parse import urlsplit

import pytest

from modelrunner.serve.client.limits import Limits
from tests.support.chunked import mixed_chunks
from tests.support.openai_server import says, waits
from tests.support.serving import Running, Scripted, gateway, model
from tests.support.waiting import wait_until

ONE = model("ai/one")
HURRIED = Limits(headers_s=0.3, idle_s=0.3, silence_s=0.3, body_s=0.6)
BODY = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def connected(running: Running) -> Iterator[socket.socket]:
    parts = urlsplit(running.url)
    with closing(socket.create_connection((parts.hostname, parts.port), timeout=20)) as client:
        yield client


def everything(client: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    found = b""
    while piece := client.recv(65536):
        found += piece
    return found


def answer_on(client: socket.socket) -> tuple[int, bytes]:
    """One answer with a length on a connection that stays open."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += client.recv(65536)
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.splitlines()
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        body += client.recv(65536)
    return int(head.split()[1]), body


def request(*headers: bytes, body: bytes = BODY) -> bytes:
    length = b"Content-Length: %d" % len(body)
    return POST + b"\r\n".join([*headers, length, b"", body])


# Who says much.


def test_a_body_in_large_and_small_chunks_arrives_whole() -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running, connected(running) as client:
        head, text = mixed_chunks()
        client.sendall(head)
        assert everything(client).startswith(b"HTTP/1.1 200")
        (asked,) = runtime.last.answers.requests
    assert asked.body["messages"][0]["content"] == text


# Who says nothing.


def test_a_connection_that_says_nothing_is_closed() -> None:
    with gateway(Scripted(), ONE, limits=HURRIED) as running, connected(running) as client:
        assert everything(client) == b""


def test_headers_that_do_not_end_are_refused_however_often_a_byte_comes() -> None:
    with gateway(Scripted(), ONE, limits=HURRIED) as running, connected(running) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nX: ")
        while not select.select([client], [], [], 0.02)[0]:
            client.sendall(b"x")
        answer = everything(client)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["message"] == (
        "the headers of the request did not arrive in time"
    )


def test_a_connection_without_a_further_request_is_closed() -> None:
    with gateway(Scripted(), ONE, limits=HURRIED) as running, connected(running) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer_on(client) == (200, b'{"status":"ok"}')
        assert everything(client) == b""


def test_half_of_a_further_request_is_refused_in_time() -> None:
    limits = Limits(headers_s=0.3, idle_s=600)
    with gateway(Scripted(), ONE, limits=limits) as running, connected(running) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he")
        assert answer_on(client)[0] == 200
        assert everything(client).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_nobody_waits_for_does_not_hold_a_connection() -> None:
    limits = Limits(headers_s=0.3, idle_s=600)
    with gateway(Scripted(), ONE, limits=limits) as running, connected(running) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        assert answer_on(client)[0] == 200
        assert everything(client) == b""


@pytest.mark.parametrize("drip", [b"", b" "])
def test_a_body_that_does_not_come_is_refused(drip: bytes) -> None:
    limits = Limits(silence_s=0.3, body_s=0.6)
    with gateway(Scripted(), ONE, limits=limits) as running, connected(running) as client:
        client.sendall(POST + b"Content-Length: 100000\r\n\r\n{")
        while not select.select([client], [], [], 0.02)[0]:
            client.sendall(drip)
        status, answer = answer_on(client)
    assert status == 408
    assert json.loads(answer)["error"]["message"] == (
        "the body of the request did not arrive in time"
    )


def test_an_answer_that_takes_longer_than_every_deadline_is_not_cut() -> None:
    reply = says(*"abcdefgh", pause=0.15)
    runtime = Scripted(load_s=0.6, scripts={"ai/one:latest": [reply]})
    with gateway(runtime, ONE, limits=HURRIED) as running:
        assert running.chat("one").body == b"".join(reply.pieces)


# Many at once.


def test_silent_connections_shut_nobody_out() -> None:
    limits = Limits(waiting=16)
    with gateway(Scripted(), ONE, limits=limits) as running, ExitStack() as stack:
        silent = [stack.enter_context(connected(running)) for _ in range(40)]
        assert running.get("/health").status == 200
        assert running.chat("one").status == 200
        # the oldest went
        assert silent[0].recv(1) == b""


def test_a_connection_that_is_answered_is_never_the_one_to_go() -> None:
    runtime = Scripted(scripts={"ai/one:latest": [waits("Once")]})
    limits = Limits(waiting=4, connections=6)
    with gateway(runtime, ONE, limits=limits) as running, ExitStack() as stack:
        client = stack.enter_context(connected(running))
        client.sendall(request())
        found = b""
        while b"Once" not in found:
            found += client.recv(65536)
        for _ in range(20):
            stack.enter_context(connected(running))
        assert running.get("/health").status == 200
        # nothing has come since, not even an end
        assert not select.select([client], [], [], 0)[0]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(requests=2), "too many requests: the server is already processing 2"),
        (
            Limits(requests_of_peer=2),
            "too many requests: the server is already processing 2 of 127.0.0.1",
        ),
    ],
)
def test_beyond_the_limit_requests_are_refused_as_json_and_health_is_told(
    limits: Limits, message: str
) -> None:
    runtime = Scripted(scripts={"ai/one:latest": [waits("Once"), waits("Twice")]})
    with gateway(runtime, ONE, limits=limits) as running, ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(connected(running))
            client.sendall(request())
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        answer = running.chat("one")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert answer.error == f"{message}: try again in a few seconds"
        assert running.post("/v1/messages", {}).json["error"]["type"] == "overloaded_error"
        assert running.get("/health").json == {"status": "ok"}
        assert running.control("GET", "models").status == 200
        stack.close()
        wait_until(lambda: running.chat("one").status == 200)


# What is not understood, or too large.


def test_what_is_no_http_is_refused_as_json() -> None:
    with gateway(Scripted(), ONE) as running:
        for raw in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
            with connected(running) as client:
                client.sendall(raw)
                head, _, body = everything(client).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 ")
            assert json.loads(body)["error"]["code"] == "invalid_http"


@pytest.mark.parametrize("size", [66_000, 100_000, 300_000])
def test_headers_have_the_limit_that_is_documented_however_they_arrive(size: int) -> None:
    with gateway(Scripted(), ONE) as running:
        with connected(running) as client:
            client.sendall(
                b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: %b\r\n\r\n" % (b"x" * size)
            )
            assert client.recv(65536).startswith(b"HTTP/1.1 431 ")
        assert running.get("/health", X="x" * 60_000).status == 200


def test_a_body_beyond_the_limit_is_read_so_that_its_client_sees_the_refusal() -> None:
    body = b'{"messages": ["%b"]}' % (b"x" * 65 * 1024 * 1024)
    with gateway(Scripted(), ONE) as running, connected(running) as client:
        # as most clients do: all of it is written before anything is read
        client.sendall(request(body=body))
        status, told = answer_on(client)
        assert (status, json.loads(told)["error"]["message"]) == (
            413,
            "the request has more than 64 MiB",
        )
        # and the connection is as good as new
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer_on(client)[0] == 200


def test_a_body_that_is_refused_for_its_key_is_read_too() -> None:
    body = b"x" * 8 * 1024 * 1024
    with gateway(Scripted(), ONE, api_key="secret") as running, connected(running) as client:
        client.sendall(request(body=body))
        assert answer_on(client)[0] == 401


def test_a_body_that_waits_to_be_asked_for_is_not_asked_for_when_it_is_refused() -> None:
    with gateway(Scripted(), ONE) as running, connected(running) as client:
        client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 100000000\r\n\r\n")
        assert everything(client).startswith(b"HTTP/1.1 413 ")


# Addresses.


@pytest.mark.parametrize(
    "target",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat///completions//",
        "http://localhost/v1/chat/completions",
        "HTTP://127.0.0.1:80//v1/chat/completions/",
    ],
)
def test_an_address_may_have_extra_slashes_and_a_host(target: str) -> None:
    with gateway(Scripted(), ONE) as running:
        assert running.ask("POST", target, BODY).status == 200


def test_the_host_in_the_address_counts() -> None:
    with gateway(Scripted(), ONE) as running:
        answer = running.ask("POST", "http://evil.example/v1/chat/completions", BODY)
        assert (answer.status, answer.json["error"]["code"]) == (403, "host")
        assert running.get("http://localhost/health", Host="evil.example").status == 200
        with connected(running) as client:
            client.sendall(b"GET http://[/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer_on(client)[0] == 400


def test_every_answer_has_the_id_of_its_request() -> None:
    with gateway(Scripted(), ONE) as running:
        assert running.chat("one", X_Request_Id="mine-1").headers["x-request-id"] == "mine-1"
        made = [running.get("/health", X_Request_Id="no good").headers for _ in range(2)]
        made += [running.get("/nowhere").headers]
        ids = {headers["x-request-id"] for headers in made}
    assert len(ids) == 3
    assert all(each.startswith("req_") for each in ids)
