"""When an answer is looked at, and what comes together."""

import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPResponse
from itertools import count
from types import SimpleNamespace

import pytest

from modelrunner.chat.answer import Delta, Done
from modelrunner.chat.arrival import LOOK_S, Arriving, Connection, together

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Reply:
    """A server's end of a connection, and the reply at the other one."""

    def __init__(self) -> None:
        self.server, self.client = socket.socketpair()
        self.server.sendall(HEAD)
        self.reply = HTTPResponse(self.client)
        self.reply.begin()
        self.connection = Connection(self.reply, self.client)

    def send(self, *chunks: bytes) -> None:
        self.server.sendall(b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks))

    def chunks(self) -> Iterator[bytes]:
        while chunk := self.reply.read1(65536):
            yield chunk

    def close(self) -> None:
        self.reply.close()
        self.client.close()
        self.server.close()


@pytest.fixture
def reply() -> Iterator[Reply]:
    found = Reply()
    yield found
    found.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between two looks; all else takes a millisecond by this clock."""
    taken: list[float] = []
    clock = count(0.0, 0.001)
    time = SimpleNamespace(sleep=taken.append, monotonic=lambda: next(clock))
    monkeypatch.setattr("modelrunner.chat.arrival.time", time)
    return taken


def test_what_has_come_is_seen_in_the_buffer_and_on_the_line(reply: Reply) -> None:
    assert not reply.connection.has_more()
    reply.send(b"one", b"two")
    assert reply.connection.has_more()
    assert reply.reply.read1(100) == b"one"
    # two of them came by one packet
    assert reply.connection.has_more()
    assert reply.reply.read1(100) == b"two"
    # only the line feed of the last chunk is left
    assert not reply.connection.has_more()
    reply.send(b"three")
    assert reply.connection.has_more()


def test_looking_changes_neither_what_is_read_nor_how_long_it_is_waited_for(reply: Reply) -> None:
    reply.client.settimeout(7.0)
    reply.send(b"one", b"two")
    chunks = []
    for chunk in reply.chunks():
        reply.connection.has_more()
        chunks.append(chunk)
        if chunk == b"two":
            reply.server.sendall(b"0\r\n\r\n")
    assert chunks == [b"one", b"two"]
    assert reply.client.gettimeout() == 7.0


def test_a_connection_that_broke_has_no_more(reply: Reply) -> None:
    reply.send(b"one")
    assert reply.reply.read1(100) == b"one"
    reply.server.close()
    assert not reply.connection.has_more()


def test_tls_is_read_as_it_comes(reply: Reply, waits: list[float]) -> None:
    inside = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    assert not Connection(reply.reply, inside).shows  # type: ignore[arg-type]
    reply.connection.shows = False
    reply.send(b"one", b"two")
    arriving = Arriving(reply.chunks(), reply.connection)
    arriving.pace()
    chunks = iter(arriving)
    assert (next(chunks), arriving.more) == (b"one", False)
    assert (next(chunks), arriving.more) == (b"two", False)
    assert waits == []


def test_it_is_waited_between_two_looks_once_there_is_an_answer(
    reply: Reply, waits: list[float]
) -> None:
    reply.send(b"one")
    arriving = Arriving(reply.chunks(), reply.connection)
    chunks = iter(arriving)
    assert next(chunks) == b"one"
    arriving.pace()
    reply.send(b"two", b"three")
    assert (next(chunks), arriving.more) == (b"two", True)
    assert (next(chunks), arriving.more) == (b"three", False)
    reply.send(b"four")
    assert next(chunks) == b"four"
    # after the first and after the third: what had come with it was not waited for
    assert len(waits) == 2
    assert all(0 < wait <= LOOK_S for wait in waits)


class Scripted(Arriving):
    """Says for each piece whether more has come."""

    def __init__(self) -> None:
        self.more = False
        self.paces = 0

    def pace(self) -> None:
        self.paces += 1

    def pieces(self, *script: tuple[Delta | Done, bool]) -> Iterator[Delta | Done]:
        for piece, more in script:
            self.more = more
            yield piece


def test_what_has_come_when_it_is_looked_at_is_one_piece() -> None:
    arriving = Scripted()
    pieces = arriving.pieces(
        (Delta("", ""), False),
        (Delta("Once", ""), False),
        (Delta(" upon", ""), True),
        (Delta(" a", ""), True),
        (Delta(" time", ""), False),
        (Delta(".", ""), True),
        (Done("stop"), False),
    )
    found = together(pieces, arriving)
    assert arriving.paces == 0
    assert next(found) == Delta("Once", "")
    assert list(found) == [Delta(" upon a time", ""), Delta(".", ""), Done("stop")]
    assert arriving.paces > 0


def test_words_are_not_held_back_by_what_says_nothing() -> None:
    arriving = Scripted()
    pieces = arriving.pieces((Delta("I look it up.", ""), True), (Delta("", ""), False))
    assert next(together(pieces, arriving)) == Delta("I look it up.", "")


def test_thoughts_after_words_stay_after_them() -> None:
    arriving = Scripted()
    pieces = arriving.pieces(
        (Delta("", "hm"), True), (Delta("a", ""), True), (Delta("", "so"), True), (Done("x"), True)
    )
    assert list(together(pieces, arriving)) == [Delta("a", "hm"), Delta("", "so"), Done("x")]


def test_what_came_before_a_connection_broke_is_shown() -> None:
    arriving = Scripted()

    def broken() -> Iterator[Delta | Done]:
        yield from arriving.pieces((Delta("I was", ""), True))
        raise ConnectionResetError

    found = together(broken(), arriving)
    assert next(found) == Delta("I was", "")
    with pytest.raises(ConnectionResetError):
        next(found)
