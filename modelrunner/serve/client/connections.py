"""Connections of clients: each has to bring a request in time, or make room for one that does.

uvicorn waits for headers as long as a client likes. A connection without a request costs next to
nothing, but descriptors end: so it has a deadline, and where many wait, the oldest is closed. A
connection whose request is being answered is left alone, however long that takes.

What is parsed at once is bounded: a header of four bytes and a chunk of one take as long as long
ones, and while one client's are parsed nobody else is served.
"""

import asyncio
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from modelrunner.serve.client.dialects import OPENAI, Failure
from modelrunner.serve.client.limits import Limits
from modelrunner.serve.process.certificate import Certificate

_FIRST_ERROR = 400
_LINGER_S = 2.0
_FAREWELL_S = 1.0
"""How long a client has to confirm the end of a connection, which TLS wants and few do."""

_HEADER_LINES = 256
_BLANK_LINE = re.compile(rb"\n\r?\n")
_READ, _READ_DENSE, _READ_BODY = 4 * 1024, 512, 64 * 1024
"""Bytes that are parsed at once: of headers and what may be small chunks, of many small chunks, and
of a body otherwise."""

_DENSE = 64
"""Bytes of a line, on average, below which chunks are small."""

_REST_S = 0.005
"""For which nothing is read of a body in small chunks after each piece, times such bodies."""


@dataclass(slots=True)
class Connections:
    """All connections of a server; called by uvicorn for each new one.

    Attributes:
        limits: How many there may be, and for how long.
        certificate: What is shown to clients; None for plain HTTP.
        waiting: Those without a request, the one that waits longest first.
        count: How many there are.
        dense: Those whose bodies come in small chunks.
    """

    limits: Limits
    certificate: Certificate | None = None
    waiting: "dict[Connection, None]" = field(default_factory=dict)
    count: int = 0
    dense: "set[Connection]" = field(default_factory=set)

    def __call__(self, **settings: Any) -> "Connection":  # noqa: ANN401 - uvicorn's own
        """A new connection."""
        if self.certificate is None:
            return Connection(self, **settings)
        return SecureConnection(self, self.certificate, **settings)

    def make_room(self) -> None:
        """Close one that waits, if there are too many: of the address with the most, the oldest."""
        limits = self.limits
        if len(self.waiting) <= limits.waiting and self.count <= limits.connections:
            return
        peers = Counter(each.peer for each in self.waiting)
        if peers:
            busiest, _ = peers.most_common(1)[0]
            next(each for each in self.waiting if each.peer == busiest).drop()


class Connection(H11Protocol):
    """A connection with a deadline for each request's headers."""

    def __init__(self, connections: Connections, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(**settings)
        self._all = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._is_refused = False
        self._head = b""
        self._lines = 0
        self._is_dense = False
        self._later = bytearray()

    @property
    def peer(self) -> str:
        """The address of the client."""
        return self.client[0] if self.client else ""

    @property
    def _is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self._has_asked and not self.cycle.response_complete

    @property
    def _has_asked(self) -> bool:
        """Whether there has been a request."""
        # uvicorn's annotation leaves out that there may be none yet
        return bool(self.cycle)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(transport)
        self._all.count += 1
        self._all.waiting[self] = None
        self._start_deadline()
        self._all.make_room()
        self._read_at_once(_READ)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._all.count -= 1
        self._all.waiting.pop(self, None)
        self._all.dense.discard(self)
        self._stop_deadline()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Take what has come; the first byte of a request starts its time."""
        if self._later:
            # in the turn of what is there already
            self._later += data
            self.transport.pause_reading()
            return
        if self._is_chunked() and len(data) > _READ and _is_dense(data):
            self._later += data
            self.transport.pause_reading()
            self._take_some()
            return
        self._take(data)

    def _take_some(self) -> None:
        """Take some of what is there already, and the rest in later turns of the loop."""
        piece = bytes(self._later[:_READ_DENSE])
        del self._later[:_READ_DENSE]
        self._take(piece)
        if self not in self._all.dense:
            # large chunks before the small ones, or after them
            self.loop.call_soon(self._after_rest)

    def _take(self, data: bytes) -> None:
        if self._is_refused:
            return
        if not self._is_busy:
            self._start_deadline()
        if self.conn.their_state is h11.IDLE and self._has_too_many_lines(data):
            self._refuse(431, f"the headers have more than {_HEADER_LINES} lines")
            return
        self._is_dense = _is_dense(data)
        super().data_received(data)
        self._settle()
        if self._is_dense and self._is_chunked():
            self._rest()
        else:
            self._all.dense.discard(self)

    def handle_events(self) -> None:
        """Start the request that has arrived, if it is complete."""
        super().handle_events()
        self._settle()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for what is left of this one's body."""
        super().on_response_complete()
        self._settle()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, as JSON; uvicorn calls it while it handles the error."""
        error = sys.exception()
        status = getattr(error, "error_status_hint", _FIRST_ERROR)
        self._refuse(status, f"invalid HTTP request: {error}" if error else msg)

    def _has_too_many_lines(self, data: bytes) -> bool:
        """Whether the headers, so far, have too many lines."""
        text = self._head + data
        end = _BLANK_LINE.search(text)
        head = text[: end.start()] if end else text
        lines = self._lines + head.count(b"\n") - self._head.count(b"\n")
        # the blank line may be cut in two, and what follows it is not a header
        self._lines, self._head = (0, b"") if end else (lines, text[-2:])
        return lines > _HEADER_LINES

    def drop(self) -> None:
        """Close the connection, without an answer to what it has not asked."""
        self._all.waiting.pop(self, None)
        self.transport.abort()

    def _settle(self) -> None:
        """Set the timers for the state that the connection is in now."""
        if self._is_refused or self.transport.is_closing():
            return
        self._read_at_once(self._body_size())
        if self._is_busy:
            self._all.waiting.pop(self, None)
            self._stop_deadline()
            return
        self._all.waiting.setdefault(self)
        if self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]:
            # a body that nobody needs any more, or the beginning of a request
            self._start_deadline()
        elif self._has_asked:
            self._stop_deadline()
            if self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )

    def _body_size(self) -> int:
        if self.conn.their_state is not h11.SEND_BODY:
            return _READ
        return _READ_DENSE if self._is_chunked() and self._is_dense else _READ_BODY

    def _is_chunked(self) -> bool:
        """Whether a body in chunks is coming."""
        return self.conn.their_state is h11.SEND_BODY and any(
            name == b"transfer-encoding" for name, _ in self.headers
        )

    def _rest(self) -> None:
        """Read nothing for a moment, so that others have the loop most of the time."""
        if self.transport.is_closing() or (self.flow.read_paused and not self._later):
            return
        self._all.dense.add(self)
        self.transport.pause_reading()
        self.loop.call_later(_REST_S * len(self._all.dense), self._after_rest)

    def _after_rest(self) -> None:
        """Take some of what is there already, or read again."""
        if self.transport.is_closing() or self._is_refused:
            self._later.clear()
        if not self._later:
            self._go_on()
            return
        self._take_some()

    def _go_on(self) -> None:
        # uvicorn may have stopped it meanwhile, and starts it again itself
        if not self.transport.is_closing() and not self.flow.read_paused:
            self.transport.resume_reading()

    def _read_at_once(self, size: int) -> None:
        # asyncio has no other way to say so; its transports of Windows do without
        cast("Any", self.transport).max_size = size

    def _start_deadline(self) -> None:
        if self._deadline is None:
            seconds = self._all.limits.headers_s
            self._deadline = self.loop.call_later(seconds, self._on_deadline)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408, "the headers of the request did not arrive in time")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answer with an error and close the connection."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = OPENAI.body(Failure(status, message, "invalid_http"))
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            reason = HTTPStatus(status).phrase.encode()
            events = (
                h11.Response(status_code=status, headers=headers, reason=reason),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more comes, and drop what still does for a moment.

        To close while the client writes would be a reset, for which it forgets the answer.
        """
        self._is_refused = True
        self._all.waiting.setdefault(self)
        self._stop_deadline()
        self._deadline = self.loop.call_later(_LINGER_S, self.transport.abort)
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _is_dense(data: bytes) -> bool:
    """Whether a piece of a body may have more small chunks than are parsed at once."""
    return data.count(b"\n") * _DENSE > len(data)


class SecureConnection(Connection):
    """A connection that begins with the handshake of TLS.

    The handshake is made here and not by the listener: until it ends, the connection has a deadline
    and waits among the others, so that those who only begin one take nobody's place.
    """

    def __init__(
        self,
        connections: Connections,
        certificate: Certificate,
        **settings: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(connections, **settings)
        self._certificate = certificate
        self._handshake: asyncio.Task[None] | None = None
        self._is_open = False
        self._is_lost = False
        self._arrived = bytearray()
        self._at_once = _READ

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the handshake."""
        super().connection_made(transport)
        # what comes is for the handshake, which is not listening yet
        transport.pause_reading()
        self._handshake = self.loop.create_task(self._shake_hands(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, once."""
        if not self._is_lost:
            self._is_lost = True
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come, a piece at a time: what TLS hands on at once is large."""
        self._arrived += data
        if len(self._arrived) > len(data):
            # in the turn of what is there already
            self._pause()
        else:
            self._feed()

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        try:
            secure = await self.loop.start_tls(
                transport,
                self,
                self._certificate.context,
                server_side=True,
                ssl_handshake_timeout=self._all.limits.headers_s,
                ssl_shutdown_timeout=_FAREWELL_S,
            )
        except OSError as exc:
            transport.abort()
            self.connection_lost(exc)
            return
        if secure is None or self._is_lost:
            # closed meanwhile
            self.connection_lost(None)
            return
        H11Protocol.connection_made(self, secure)
        self._is_open = True
        self._feed()

    def _feed(self) -> None:
        """Hand on as much as may be parsed at once, and the rest in a later turn of the loop."""
        if not self._is_open or self._is_lost or not self._arrived:
            return
        if self.transport.is_closing():
            self._arrived.clear()
            return
        piece = bytes(self._arrived[: self._at_once])
        del self._arrived[: self._at_once]
        super().data_received(piece)
        if self._arrived:
            self._pause()
            if self not in self._all.dense:
                self.loop.call_soon(self._feed_on)

    def _feed_on(self) -> None:
        self._feed()
        if not self._arrived and self not in self._all.dense:
            super()._go_on()

    def _go_on(self) -> None:
        if self._arrived:
            self._feed_on()
        else:
            super()._go_on()

    def _pause(self) -> None:
        # before that, reading is the handshake's
        if self._is_open and not self.transport.is_closing():
            self.transport.pause_reading()

    def _read_at_once(self, size: int) -> None:
        # of a transport of TLS, asyncio asks nobody how much it reads
        self._at_once = size
