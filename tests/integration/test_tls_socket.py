"""A socket of TLS that is read in large blocks: what it asks the system for, and how it ends."""

import socket
import ssl
import threading
from contextlib import suppress

import pytest

from modelrunner.registry.http.connections import Connections
from modelrunner.registry.http.direct.tls import TlsSocket
from tests.support.registry_tls import Certificate, can_make_certificates

pytestmark = pytest.mark.skipif(not can_make_certificates(), reason="no openssl command")

RECORD = 16 * 1024


@pytest.fixture(scope="module")
def certificate():
    made = Certificate.make()
    yield made
    made.remove()


@pytest.fixture
def trusting(certificate):
    return ssl.create_default_context(cafile=certificate.file)


class Other:
    """The other end of a connection: does one thing after another, in a thread of its own."""

    def __init__(self, certificate, steps):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._context = certificate.server_context()
        self._steps = steps
        self.done = threading.Event()
        self.error = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        plain, _ = self._listening.accept()
        # else the last record waits for word of those before it
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with plain:
            try:
                with self._context.wrap_socket(plain, server_side=True) as encrypted:
                    self._steps(encrypted)
                    self.done.set()
                    # until the other end has gone
                    while encrypted.recv(RECORD):
                        pass
            except OSError as exc:
                self.error = exc

    def connect(self, context, name="localhost"):
        plain = socket.create_connection(self._listening.getsockname(), 60)
        return TlsSocket(plain, context, name)

    def join(self):
        self._thread.join()
        self._listening.close()


@pytest.fixture
def other(certificate):
    made = []

    def make(steps=lambda _encrypted: None):
        made.append(Other(certificate, steps))
        return made[-1]

    yield make
    for end in made:
        end.join()


def test_many_records_are_received_at_once(other, trusting, monkeypatch):
    sent = b"".join(bytes([number]) * RECORD for number in range(3))
    end = other(lambda encrypted: encrypted.sendall(sent))
    received = []
    receive = TlsSocket._receive
    with end.connect(trusting) as here:
        end.done.wait()
        monkeypatch.setattr(TlsSocket, "_receive", lambda self: received.append(receive(self)))
        buffer = bytearray(len(sent))
        assert here.recv_into(buffer) == len(sent)
        assert buffer == sent
        assert here.pending() == 0
    assert len(received) == 1


def test_a_read_waits_for_some_and_not_for_all(other, trusting):
    end = other(lambda encrypted: encrypted.sendall(b"a line\n"))
    with end.connect(trusting) as here:
        assert here.recv_into(bytearray(RECORD)) == 7


def test_no_more_is_read_than_was_asked_for(other, trusting):
    end = other(lambda encrypted: encrypted.sendall(b"abcdef"))
    with end.connect(trusting) as here:
        buffer = bytearray(6)
        assert here.recv_into(buffer, 2) == 2
        assert buffer == b"ab\0\0\0\0"
        assert here.pending() == 4
        assert (here.recv(3), here.recv(3)) == (b"cde", b"f")


def test_what_is_sent_arrives_whole(other, trusting):
    sent = bytes(range(256)) * (3 * 4096 + 1)
    came = bytearray()

    def read(encrypted):
        while len(came) < len(sent):
            came.extend(encrypted.recv(RECORD))

    end = other(read)
    with end.connect(trusting) as here:
        here.sendall(memoryview(sent))
        end.done.wait()
    assert came == sent


@pytest.mark.parametrize("said", [True, False])
def test_the_end_is_an_end_whether_it_is_said_or_not(other, trusting, said):
    def leave(encrypted):
        encrypted.sendall(b"some")
        if said:
            encrypted.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):
                encrypted.unwrap()
        encrypted.shutdown(socket.SHUT_RDWR)

    end = other(leave)
    with end.connect(trusting) as here:
        assert here.recv(RECORD) == b"some"
        assert here.recv(RECORD) == b""


def test_what_came_before_a_damaged_record_is_read_first(other, trusting):
    def damage(encrypted):
        encrypted.sendall(b"some")
        with socket.socket(fileno=encrypted.detach()) as plain:
            plain.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)

    end = other(damage)
    with end.connect(trusting) as here:
        assert here.recv(RECORD) == b"some"
        for _again in range(2):
            with pytest.raises(ssl.SSLError):
                here.recv(RECORD)


def test_a_stranger_is_told_why_it_is_not_trusted(other):
    end = other()
    with pytest.raises(ssl.SSLCertVerificationError):
        end.connect(ssl.create_default_context())
    end.join()
    assert "UNKNOWN_CA" in str(end.error)


def test_another_name_is_not_trusted_and_nothing_stays_open(other, trusting, certificate):
    end = Other(certificate, lambda _encrypted: None)
    plain = socket.create_connection(end._listening.getsockname(), 60)
    with pytest.raises(ssl.SSLCertVerificationError):
        TlsSocket(plain, trusting, "elsewhere.test")
    # the other end would wait for ever
    end.join()
    assert plain.fileno() == -1


def test_a_read_that_takes_too_long_ends(other, trusting):
    end = other()
    with end.connect(trusting) as here:
        assert here.gettimeout() == 60
        here.settimeout(0.01)
        with pytest.raises(TimeoutError):
            here.recv(RECORD)


class Trickling:
    """A server whose bytes come one at a time, none of them late, after some that come at once."""

    def __init__(self, certificate, at_once):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._context = certificate.server_context()
        self._at_once = at_once
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        plain, _ = self._listening.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        with plain, suppress(OSError):
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._send(plain, outgoing.read())
                    received = plain.recv(RECORD)
                    if not received:
                        return
                    incoming.write(received)
            plain.sendall(outgoing.read())
            tls.write(b"x" * RECORD)
            self._send(plain, outgoing.read())

    def _send(self, plain, sent):
        if self._at_once:
            self._at_once -= 1
            plain.sendall(sent)
            return
        for number in range(len(sent)):
            plain.sendall(sent[number : number + 1])
            if self._over.wait(0.02):
                return

    def connect(self, timeout):
        plain = socket.create_connection(self._listening.getsockname(), 60)
        plain.settimeout(timeout)
        return plain

    def close(self):
        self._over.set()
        self._thread.join()
        self._listening.close()


def test_a_timeout_is_for_a_whole_handshake(trusting, certificate):
    server = Trickling(certificate, at_once=0)
    try:
        # some 2000 bytes take 40 s
        with pytest.raises(TimeoutError):
            TlsSocket(server.connect(1), trusting, "localhost")
    finally:
        server.close()


def test_a_timeout_is_for_a_whole_record(trusting, certificate):
    # what the handshake has to say is sent in two parts
    server = Trickling(certificate, at_once=2)
    try:
        with TlsSocket(server.connect(60), trusting, "localhost") as here:
            here.settimeout(1)
            with pytest.raises(TimeoutError):
                here.recv(RECORD)
            assert here.gettimeout() == 1
    finally:
        server.close()


def test_another_thread_can_end_a_read(other, trusting):
    end = other()
    with end.connect(trusting) as here:
        ending = threading.Timer(0.01, lambda: here.shutdown(socket.SHUT_RDWR))
        ending.start()
        # the other end may have seen it and gone, sooner than this one looked
        with suppress(ConnectionResetError):
            assert here.recv_into(bytearray(RECORD)) == 0
        ending.join()


class Polite:
    """A server that says that it goes together with its answer, and leaves the connection open."""

    def __init__(self, certificate):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._context = certificate.server_context()
        self.url = f"https://localhost:{self._listening.getsockname()[1]}/"
        self.connections = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            self.connections.append(plain)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = self._context.wrap_bio(incoming, outgoing, server_side=True)

            def until_done(step, plain=plain, incoming=incoming, outgoing=outgoing):
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        plain.sendall(outgoing.read())
                        incoming.write(plain.recv(RECORD))

            until_done(tls.do_handshake)
            until_done(lambda tls=tls: tls.read(RECORD))
            tls.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
            with pytest.raises(ssl.SSLWantReadError):
                tls.unwrap()
            plain.sendall(outgoing.read())

    def close(self):
        # wakes who waits for a connection
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for end in (self._listening, *self.connections):
            end.close()


def test_a_connection_whose_end_was_said_is_not_used_again(certificate):
    server = Polite(certificate)
    connections = Connections(lambda _host, _addresses: None, str(certificate.file))
    try:
        for _request in range(2):
            with connections.request(
                "GET", server.url, headers={}, content=None, timeouts=(60, 5)
            ) as response:
                assert response.raw.read() == b"hi"
        assert len(server.connections) == 2
    finally:
        connections.close()
        server.close()
