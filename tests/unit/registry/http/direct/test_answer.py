"""Answers of HTTP/1.1 as servers write them, byte for byte, and what is none."""

import itertools
import socket
import threading
from contextlib import suppress

import pytest

from modelrunner.registry.http.direct import answer, link
from modelrunner.registry.http.direct.answer import Answer
from modelrunner.registry.http.direct.link import BrokenAnswerError, InvalidAnswerError, Link


class Wire:
    """A connection on whose other end bytes were written, and which is closed there or not."""

    def __init__(self):
        self.kept = []
        self._threads = []
        self.far, near = socket.socketpair()
        near.settimeout(10)
        self.link = Link(near)

    def say(self, *parts, close=False):
        def write():
            # whoever gives up reading may have closed by now
            with suppress(BrokenPipeError, ConnectionResetError):
                for part in parts:
                    self.far.sendall(part)
                if close:
                    self.far.shutdown(socket.SHUT_WR)

        self._threads.append(threading.Thread(target=write))
        self._threads[-1].start()

    def answer(self, method="GET", *, whole=True):
        return Answer(self.link, method, self.kept.append, whole=whole)

    def end(self):
        self.link.close()
        # who still writes hears that nobody reads, and not that the socket is gone
        for thread in self._threads:
            thread.join()
        self.far.close()


@pytest.fixture
def wire():
    made = Wire()
    yield made
    made.end()


def bytewise(*parts):
    return [bytes([byte]) for byte in b"".join(parts)]


def test_head_in_any_case_and_a_body_of_known_length(wire):
    wire.say(b"HTTP/1.1 200 OK\r\nContent-LENGTH: 5\r\nX-a:  b \r\nX-A: c\r\n\r\nhello")
    answer = wire.answer()
    assert (answer.status, answer.length_remaining, answer.chunked) == (200, 5, False)
    assert answer.headers["content-length"] == "5"
    assert "CONTENT-length" in answer.headers
    assert dict(answer.headers) == {"content-length": "5", "x-a": "b, c"}
    assert (answer.headers.get("nothing"), answer.headers.get("nothing", "x")) == (None, "x")
    assert (answer.read(), answer.read()) == (b"hello", b"")
    assert wire.kept == [wire.link]
    assert wire.link.is_idle


def test_answer_that_comes_byte_by_byte_is_the_same(wire):
    wire.say(*bytewise(b"HTTP/1.1 206 Partial\r\nContent-Length: 3\r\n\r\n", b"abc"))
    answer = wire.answer()
    buffer = bytearray(8)
    got = b""
    while count := answer.read_into(memoryview(buffer)):
        got += buffer[:count]
    assert (answer.status, got) == (206, b"abc")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("cut", [list, lambda parts: bytewise(*parts)], ids=["whole", "bytewise"])
@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello\r\n0\r\n\r\n",
        b"3;name=value\r\nhel\r\n02\r\nlo\r\n000\r\nTrailer: x\r\nAnother: y\r\n\r\n",
        b"5 \nhello\n0\n\n",
        b"00000000000000A\r\nhellohello\r\n0\r\n\r\n",
    ],
)
def test_chunks_are_put_together(wire, body, cut):
    wire.say(*cut([CHUNKED, body]))
    answer = wire.answer()
    assert answer.chunked
    assert answer.length_remaining is None
    assert answer.read() in (b"hello", b"hellohello")
    assert wire.kept == [wire.link]


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"-5\r\nhello", b"\r\n", b"+5\r\nhello", b"9" * 17 + b"\r\n", b"0x5\r\nhello"],
)
def test_chunk_whose_size_is_none_is_invalid(wire, body):
    wire.say(CHUNKED, body)
    answer = wire.answer()
    with pytest.raises(InvalidAnswerError, match="invalid length or chunk size"):
        answer.read()
    answer.close()
    assert wire.kept == []


def test_chunk_that_is_longer_than_it_says_is_invalid(wire):
    wire.say(CHUNKED, b"2\r\nhello\r\n0\r\n\r\n")
    answer = wire.answer()
    with pytest.raises(InvalidAnswerError):
        answer.read()


def test_line_without_an_end_is_not_kept_in_memory(wire):
    wire.say(CHUNKED, b"5" + b";" * 100_000)
    answer = wire.answer()
    with pytest.raises(InvalidAnswerError):
        answer.read()
    wire.link.close()


@pytest.mark.parametrize("body", [b"5\r\nhel", b"5\r\nhello\r\n", b"5", b""])
def test_chunks_that_break_off_are_told(wire, body):
    wire.say(CHUNKED, body, close=True)
    answer = wire.answer()
    with pytest.raises(BrokenAnswerError):
        answer.read()


def test_body_of_known_length_that_breaks_off_ends_for_who_counts_and_is_told_to_others(wire):
    wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", close=True)
    answer = wire.answer()
    buffer = memoryview(bytearray(20))
    assert (answer.read_into(buffer), answer.read_into(buffer)) == (3, 0)
    assert answer.length_remaining == 6
    with pytest.raises(BrokenAnswerError, match="the answer ended early"):
        answer.read()
    assert wire.kept == []


def test_body_without_a_length_ends_with_the_connection(wire):
    wire.say(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nall of it", close=True)
    answer = wire.answer()
    assert (answer.length_remaining, answer.read()) == (None, b"all of it")
    assert wire.kept == []


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)]
)
def test_answer_that_has_no_body_leaves_the_connection_usable(wire, method, status):
    wire.say(f"HTTP/1.1 {status} X\r\nContent-Length: 7\r\n\r\n".encode())
    answer = wire.answer(method)
    assert (answer.read(), answer.length_remaining) == (b"", 0)
    assert wire.kept == [wire.link]


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x, close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
    ],
)
def test_connection_is_kept_where_the_server_keeps_it(wire, head, kept):
    wire.say(head + b"Content-Length: 2\r\n\r\nhi")
    assert wire.answer().read() == b"hi"
    assert bool(wire.kept) is kept


def test_connection_over_which_not_all_was_sent_is_not_kept(wire):
    wire.say(b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n")
    assert wire.answer("PUT", whole=False).status == 413
    assert wire.kept == []


def test_what_says_that_an_answer_will_come_is_passed_over(wire):
    wire.say(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    )
    answer = wire.answer("PUT")
    assert (answer.status, dict(answer.headers)) == (201, {"content-length": "0"})


def test_answer_that_is_announced_without_end_is_invalid(wire):
    wire.say(b"HTTP/1.1 100 Continue\r\n\r\n" * 30)
    with pytest.raises(InvalidAnswerError, match="never begins"):
        wire.answer()


def test_head_that_drips_is_not_waited_for(wire, monkeypatch):
    # each look at the clock is six seconds later, and the socket waits ten for a byte
    clock = itertools.count(step=6)
    monkeypatch.setattr(link, "monotonic", lambda: float(next(clock)))
    wire.say(*bytewise(b"HTTP/1.1 200 OK"))
    with pytest.raises(TimeoutError, match="timed out"):
        wire.answer()


def test_what_is_left_of_a_body_and_drips_ends_the_connection(wire, monkeypatch):
    clock = itertools.count(step=2)
    monkeypatch.setattr(answer, "monotonic", lambda: float(next(clock)))
    wire.say(b"HTTP/1.1 307 Elsewhere\r\nContent-Length: 9\r\n\r\n")
    found = wire.answer()
    wire.say(*bytewise(b"dripping"))
    found.drain_conn()
    assert wire.kept == []
    assert wire.link.sock.fileno() == -1


def test_what_is_left_of_a_body_is_read_for_the_next_answer(wire):
    wire.say(b"HTTP/1.1 307 Elsewhere\r\nContent-Length: 9\r\n\r\nelsewhere")
    wire.answer().drain_conn()
    assert wire.kept == [wire.link]


def test_body_in_an_encoding_that_is_none_has_its_length(wire):
    wire.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi")
    answer = wire.answer()
    assert (answer.chunked, answer.read()) == (False, b"hi")


def test_bytes_that_nobody_asked_for_end_the_connection(wire):
    wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n")
    assert wire.answer().read() == b"hi"
    assert not wire.link.is_idle


@pytest.mark.parametrize(
    "first",
    [b"SSH-2.0-OpenSSH", b"HTTP/2 200", b"HTTP/1.1 20 X", b"HTTP/1.1 2000 X", b"HTTP/1.1", b""],
)
def test_what_is_not_http_is_told(wire, first):
    wire.say(first + b"\r\n\r\n")
    with pytest.raises(BrokenAnswerError, match="does not speak HTTP"):
        wire.answer()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
def test_end_before_the_head_is_told(wire, said):
    wire.say(said, close=True)
    with pytest.raises(BrokenAnswerError, match="the server closed the connection"):
        wire.answer()


@pytest.mark.parametrize("length", [b"-5", b"5, 6", b"five", b"9" * 40, b"", b"0x5", b"+5"])
def test_length_that_is_none_is_invalid(wire, length):
    wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nhello")
    with pytest.raises(InvalidAnswerError, match="invalid length"):
        wire.answer()


def test_length_that_is_said_twice_the_same_is_one(wire):
    wire.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi")
    assert wire.answer().read() == b"hi"


def test_chunks_come_before_a_length(wire):
    wire.say(
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b"2\r\nhi\r\n0\r\n\r\n"
    )
    assert wire.answer().read() == b"hi"


@pytest.mark.parametrize(
    "headers", [b"X: " + b"y" * 70_000, b"\r\n".join(b"X%d: y" % number for number in range(300))]
)
def test_head_without_measure_is_invalid(wire, headers):
    wire.say(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n")
    with pytest.raises(InvalidAnswerError):
        wire.answer()
    wire.link.close()


def test_lines_of_old_servers_are_read(wire):
    wire.say(b"HTTP/1.1 200\nA: b\n\tc\nnonsense\nContent-Length: 1\n\nx")
    answer = wire.answer()
    assert answer.headers["a"] == "b c"
    assert (answer.status, answer.read()) == (200, b"x")


def test_rest_is_read_for_the_next_request_or_given_up(wire):
    wire.say(b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhello")
    answer = wire.answer()
    answer.drain_conn()
    assert wire.kept == [wire.link]
    wire.say(b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhel")
    wire.answer().close()
    assert wire.kept == [wire.link]
    assert wire.link.sock.fileno() == -1
