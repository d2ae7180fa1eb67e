"""TLS over a socket, read from the system in large blocks.

Python's own sockets of TLS let OpenSSL ask the system twice for each record of 16 KiB, for its head
and for the rest, which takes more time than decrypting it. Here the system is asked for much at
once, and OpenSSL reads from memory; what is sent is handed over in large blocks, too.
"""

import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_RECEIVED = 512 * 1024
"""Bytes to ask the system for at once; half of it costs measurably more, twice as much no less."""

_SENT = 1024 * 1024
"""Bytes to encrypt before they are sent."""


class TlsSocket(socket.socket):
    """A connected socket that speaks TLS, as far as HTTP needs it.

    Takes the place of another socket, which is of no use from then on. One thread uses it at a
    time; any may shut it down. The timeout is for each call as a whole, as `ssl` has it, and does
    not start again with each byte of a record.

    Args:
        plain: The socket.
        context: Whom to trust.
        server_hostname: Who has to be at the other end.

    Raises:
        SSLError: The other end does not speak TLS, or is not trusted.
        OSError: The connection is lost.
    """

    def __init__(
        self, plain: socket.socket, context: ssl.SSLContext, server_hostname: str | None
    ) -> None:
        timeout = plain.gettimeout()
        super().__init__(plain.family, plain.type, plain.proto, plain.detach())
        try:
            self.settimeout(timeout)
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(
                self._incoming, self._outgoing, server_hostname=server_hostname
            )
            self._received = memoryview(bytearray(_RECEIVED))
            self._ended = False
            self._failure: ssl.SSLError | None = None
            self._shake_hands()
        except BaseException:
            self.close()
            raise

    def recv_into(
        self,
        buffer: "WriteableBuffer",
        nbytes: int = 0,
        flags: int = 0,  # noqa: ARG002 - as sockets have it
    ) -> int:
        """Fill a buffer with what is there, waiting for some; 0 at the end.

        A connection that is cut off has ended, too: the caller knows how much there is to be.
        """
        view = memoryview(buffer)[: nbytes or None]
        wanted, count = len(view), 0
        read, waiting = self._tls.read, _Waiting(self)
        while not self._ended:
            try:
                while count < wanted:
                    # no more than there is room for, whatever the number
                    more: Any = read(wanted, view[count:])
                    if not more:
                        self._ended = True
                        break
                    count += more
            except ssl.SSLWantReadError:
                if not count:
                    with waiting:
                        self._receive()
                    continue
            except ssl.SSLEOFError:
                self._ended = True
            except ssl.SSLError as exc:
                # what has come before it is good, and told first
                self._ended, self._failure = True, exc
            break
        if not count and self._failure is not None:
            raise self._failure
        return count

    def recv(self, bufsize: int, flags: int = 0) -> bytes:  # noqa: ARG002 - see above
        """Return what is there, waiting for some; nothing at the end."""
        buffer = bytearray(bufsize)
        return bytes(buffer[: self.recv_into(buffer)])

    def sendall(self, data: "ReadableBuffer", flags: int = 0) -> None:  # noqa: ARG002 - see above
        """Send bytes, all of them."""
        view, waiting = memoryview(data).cast("B"), _Waiting(self)
        for begin in range(0, len(view), _SENT):
            block = view[begin : begin + _SENT]
            while block:
                try:
                    block = block[self._tls.write(block) :]
                except ssl.SSLWantReadError:
                    with waiting:
                        self._receive()
            self._flush()

    def send(self, data: "ReadableBuffer", flags: int = 0) -> int:  # noqa: ARG002 - see above
        """Send bytes, all of them; how many those are."""
        self.sendall(data)
        return memoryview(data).nbytes

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is to be sent: the other end has gone, or speaks unasked."""
        return self._ended or self.pending() > 0

    def pending(self) -> int:
        """How many bytes the system has handed over that were not read, encrypted or not."""
        return self._tls.pending() + self._incoming.pending

    def getpeercert(self, binary_form: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - as ssl has it
        """See `ssl.SSLSocket.getpeercert`."""
        return self._tls.getpeercert(binary_form)

    def selected_alpn_protocol(self) -> str | None:
        """See `ssl.SSLSocket.selected_alpn_protocol`."""
        return self._tls.selected_alpn_protocol()

    def version(self) -> str | None:
        """See `ssl.SSLSocket.version`."""
        return self._tls.version()

    def _shake_hands(self) -> None:
        waiting = _Waiting(self)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                with waiting:
                    self._receive()
            except ssl.SSLError:
                # the other end is to hear why
                with suppress(OSError):
                    self._flush()
                raise
            else:
                self._flush()
                return

    def _receive(self) -> None:
        """Wait for more of what the other end sends, and take all that is there."""
        self._flush()
        count = super().recv_into(self._received)
        if count:
            self._incoming.write(self._received[:count])
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            super().sendall(self._outgoing.read())


class _Waiting:
    """The times that one call waits: all of them together have the socket's timeout."""

    def __init__(self, tls: TlsSocket) -> None:
        self._socket = tls
        self._timeout: float | None = None
        self._end: float | None = None

    def __enter__(self) -> None:
        if self._end is not None:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._socket.settimeout(left)
            return
        self._timeout = self._socket.gettimeout()
        if self._timeout:
            self._end = time.monotonic() + self._timeout

    def __exit__(self, *_error: object) -> None:
        if self._end is not None:
            self._socket.settimeout(self._timeout)
