"""Requests straight to a server: what is sent, which connection serves, and what goes wrong."""

import socket
import ssl
import threading

import pytest
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from modelrunner.registry.http.direct.link import BrokenAnswerError, Link
from modelrunner.registry.http.direct.pool import Address, Pool, plainly
from modelrunner.registry.http.direct.reach import ConnectError
from tests.support.silence import silent_address

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Scripted:
    """A server that says, on each connection it gets, what was written down for it."""

    def __init__(self, *scripts):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.seen = []
        self._scripts = scripts
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        for script in self._scripts:
            near, _ = self._listening.accept()
            seen = []
            self.seen.append(seen)
            with near:
                near.settimeout(10)
                for answer in script:
                    asked = b""
                    while not asked.endswith(b"\r\n\r\n"):
                        more = near.recv(1)
                        if not more:
                            break
                        asked += more
                    seen.append(asked)
                    near.sendall(answer)

    def at(self, path="/"):
        return plainly(f"http://127.0.0.1:{self.port}{path}")

    def end(self):
        self._thread.join()
        self._listening.close()


@pytest.fixture
def scripted():
    made = []

    def make(*scripts):
        made.append(Scripted(*scripts))
        return made[-1]

    yield make
    for server in made:
        server.end()


@pytest.fixture
def pool():
    made = Pool(lambda _host, _addresses: None)
    yield made
    made.close()


def ask(pool, address, method="GET", headers=None, content=None):
    answer = pool.request(method, address, headers or {}, content, (10, 10), None)
    body = answer.read()
    answer.close()
    return answer.status, body


def test_one_connection_serves_what_is_asked_one_after_the_other(scripted, pool):
    server = scripted([OK, OK])
    assert ask(pool, server.at("/a?b=c")) == (200, b"hi")
    assert ask(pool, server.at("/d"), headers={"X": "y"}) == (200, b"hi")
    host = f"Host: 127.0.0.1:{server.port}".encode()
    assert server.seen == [
        [
            b"GET /a?b=c HTTP/1.1\r\n" + host + b"\r\n\r\n",
            b"GET /d HTTP/1.1\r\n" + host + b"\r\nX: y\r\n\r\n",
        ]
    ]


def test_kept_connection_that_the_server_has_closed_is_made_anew(scripted, pool):
    # the second request arrives, and the server goes without a word
    server = scripted([OK, b""], [OK])
    assert ask(pool, server.at()) == (200, b"hi")
    assert ask(pool, server.at()) == (200, b"hi")
    assert [len(seen) for seen in server.seen] == [2, 1]


def test_request_that_may_have_been_done_is_not_sent_again(scripted, pool):
    server = scripted([OK, b""])
    assert ask(pool, server.at()) == (200, b"hi")
    with pytest.raises(BrokenAnswerError):
        ask(pool, server.at(), "POST")
    assert len(server.seen) == 1


def test_server_that_closes_each_connection_is_asked_once(scripted, pool):
    server = scripted([b""])
    with pytest.raises(BrokenAnswerError, match="the server closed the connection"):
        ask(pool, server.at())
    assert len(server.seen) == 1


class Endless:
    """A body of which no server takes all."""

    def __len__(self):
        return 1 << 40

    def __iter__(self):
        while True:
            yield b"x" * 65536


@pytest.mark.parametrize("content", [b"x" * 10, Endless()], ids=["bytes", "parts"])
def test_answer_to_a_body_that_is_refused_midway_is_read_and_ends_the_connection(
    pool, content, monkeypatch
):
    far, near = socket.socketpair()
    far.sendall(b"HTTP/1.1 413 Large\r\nContent-Length: 5\r\n\r\nlarge")
    # whoever sends from now on is told that nobody reads
    far.shutdown(socket.SHUT_RD)
    monkeypatch.setattr(Pool, "_connect", lambda *_asked: Link(near))
    with far:
        assert ask(pool, plainly("http://h/"), "PUT", content=content) == (413, b"large")
    assert near.fileno() == -1


def test_body_in_parts_has_its_length_said(scripted, pool):
    class Parts:
        def __len__(self):
            return 3

        def __iter__(self):
            return iter([b"ab", memoryview(b"c")])

    server = scripted([OK])
    ask(pool, server.at(), "PUT", content=Parts())
    assert server.seen[0][0].endswith(b"\r\nContent-Length: 3\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_what_could_have_a_body_says_that_there_is_none(scripted, pool, method):
    server = scripted([OK])
    ask(pool, server.at(), method)
    assert server.seen[0][0].endswith(b"Content-Length: 0\r\n\r\n")


@pytest.mark.parametrize("value", ["a\r\nB: c", "a\nB: c", "a\rb"])
def test_header_cannot_bring_another_one(pool, value):
    with pytest.raises(ValueError, match="more than one line"):
        ask(pool, plainly("http://127.0.0.1:1/"), headers={"A": value})


def test_addresses_are_judged_and_those_alone_are_connected_to(scripted, monkeypatch):
    server = scripted([OK])
    judged = []
    answers = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", server.port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_asked: answers)
    pool = Pool(lambda host, found: judged.append((host, [*map(str, found)])))
    # the first address refuses, and the next one is taken; nobody listens on 127.0.0.2 but all
    answers[2] = (*answers[2][:4], ("127.0.0.1", server.port))
    answers[0] = answers[1] = (*answers[0][:4], ("127.0.0.3", 1))
    assert ask(pool, Address("http", "registry.test.", 5000, "/", "")) == (200, b"hi")
    pool.close()
    assert judged == [("registry.test.", ["127.0.0.3", "127.0.0.1"])]
    assert b"Host: registry.test:5000\r\n" in server.seen[0][0]


def test_judge_that_refuses_is_the_end(monkeypatch):
    def refuse(_host, _addresses):
        raise PermissionError("not there")

    pool = Pool(refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_asked: [(2, 1, 6, "", ("127.0.0.1", 1))])
    with pytest.raises(PermissionError, match="not there"):
        ask(pool, Address("http", "registry.test", 80, "/", ""))


def test_connection_that_is_not_made_in_time_says_so():
    pool = Pool(lambda _host, _addresses: None)
    with silent_address() as (host, port), pytest.raises(ConnectError, match="timed out"):
        pool.request("GET", plainly(f"http://{host}:{port}/"), {}, None, (0.2, 0.2), None)


def test_handshake_that_is_not_done_in_time_is_a_connection_that_is_not_made():
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool = Pool(lambda _host, _addresses: None)
        address = plainly(f"https://127.0.0.1:{server.getsockname()[1]}/")
        with pytest.raises(ConnectError, match="timed out"):
            pool.request("GET", address, {}, None, (0.2, 0.2), ssl.create_default_context())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", Address("http", "h", 80, "/", "http://h")),
        ("https://h/a%2Fb?c=d?e", Address("https", "h", 443, "/a%2Fb?c=d?e", "https://h/a%2Fb?c=d?e")),
        ("http://[::1]:5000/v2/", Address("http", "::1", 5000, "/v2/", "http://[::1]:5000/v2/")),
    ],
)  # fmt: skip
def test_plain_address_in_parts(url, expected):
    assert plainly(url) == expected


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://h:80/", "h"),
        ("https://h:80/", "h:80"),
        ("https://h./", "h"),
        ("http://[::1]/", "[::1]"),
        ("https://[::1]:5000/", "[::1]:5000"),
    ],
)
def test_host_header(url, authority):
    assert plainly(url).authority == authority


@pytest.mark.parametrize(
    "url",
    ["ftp://h/", "http://user@h/", "http://H/", "http://h/a b", "http://h/../x", "http://h/#part",
     "http://h/%2f", "http://h:99999/", "http://h/\u00e9", "HTTP://h/", "http://h/a\r\nB: c", "http:///"],
)  # fmt: skip
def test_address_that_has_to_be_changed_is_not_plain(url):
    assert plainly(url) is None


@given(st.text(st.sampled_from("abz019.-_~!$&'()*+,;=:@/?%AF#[]\\ \u00e9\n"), max_size=24))
@example("/a/./b")
@example("/%2F%41?x=%zz")
def test_plain_addresses_are_sent_as_the_general_library_sends_them(rest):
    for url in (f"http://h.example:5000/{rest}", f"https://{rest}"):
        plain = plainly(url)
        if plain is None:
            continue
        parts = urllib3.util.parse_url(url)
        assert (plain.scheme, plain.host) == (parts.scheme, (parts.host or "").strip("[]"))
        assert plain.port == (parts.port or {"http": 80, "https": 443}[plain.scheme])
        assert (plain.target, plain.url) == (parts.request_uri, parts.url)
