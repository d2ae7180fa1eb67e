"""One request to a runtime's server: a connection of its own, closed with the block.

That a client goes away shall stop the runtime's work at once, and the end of a connection is what
every runtime understands. So none is kept for the next request; on loopback a new one is cheap.
The answer is handed on as it comes, as much at once as has arrived.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

from modelrunner.serve.bodies.parsing import pieces
from modelrunner.wire import parse_object

_CHUNK = 64 * 1024
_CHUNKED = 8 * 1024
"""Bytes that are read at once of an answer in chunks: each may be of a byte, and takes its time."""

_CONNECT_S = 10.0
_LARGEST = 16 * 1024 * 1024
"""Bytes of an answer that is read as a whole."""

Headers = Sequence[tuple[bytes, bytes]]


JSON: Headers = [(b"content-type", b"application/json")]
EVENTS: Headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
"""The headers of an answer that is made of another one."""


class BrokenOffError(Exception):
    """The runtime's server is not there, or went away before its answer was complete."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The head of an answer, and its body as it comes."""

    status: int
    headers: Headers
    body: AsyncIterator[bytes]

    def header(self, name: bytes) -> bytes:
        """A header's value, empty where there is none."""
        return next((value for key, value in self.headers if key == name), b"")

    async def value(self) -> Mapping[str, Any]:
        """The body, which is an object of JSON.

        Raises:
            BrokenOffError: It is not one, is too large, or is not complete.
        """
        raw = bytearray()
        async for piece in self.body:
            raw += piece
            if len(raw) > _LARGEST:
                raise BrokenOffError("the answer is too large")
        try:
            return parse_object(raw)
        except ValueError as exc:
            raise BrokenOffError(str(exc)) from exc


@asynccontextmanager
async def asked(
    url: str, body: bytes | bytearray, headers: Headers, *, api_key: str, method: str = "POST"
) -> AsyncIterator[Reply]:
    """The block in which a request is answered.

    Raises:
        BrokenOffError: There is no answer, or, while the body is read, no more of it.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    try:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(
                parts.hostname or "", port, ssl=secure, limit=_CHUNK
            )
    except (OSError, TimeoutError) as exc:
        raise BrokenOffError(str(exc)) from exc
    connection = h11.Connection(h11.CLIENT)
    sent = [
        (b"host", parts.netloc.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *headers,
    ]
    if api_key:
        sent.append((b"authorization", f"Bearer {api_key}".encode()))
    try:
        request = h11.Request(method=method.encode(), target=parts.path.encode(), headers=sent)
        # it may refuse before it has read everything: then there is an answer
        with suppress(OSError):
            # with the first piece of the body: a small request takes one packet
            unsent = [connection.send(request) or b""]
            for piece in pieces(body):
                unsent.append(connection.send(h11.Data(data=bytes(piece))) or b"")
                writer.writelines(unsent)
                unsent.clear()
                await writer.drain()
            writer.writelines([*unsent, connection.send(h11.EndOfMessage()) or b""])
            await writer.drain()
        yield await _reply(reader, connection)
    finally:
        # not `close`: what is in the buffers is for nobody, and nobody waits for a goodbye
        writer.transport.abort()


async def _reply(reader: asyncio.StreamReader, connection: h11.Connection) -> Reply:
    while True:
        event = await _next_event(reader, connection)
        if isinstance(event, h11.Response):
            headers = list(event.headers)
            is_chunked = any(name == b"transfer-encoding" for name, _ in headers)
            size = _CHUNKED if is_chunked else _CHUNK
            return Reply(event.status_code, headers, _body(reader, connection, size))
        if not isinstance(event, h11.InformationalResponse):
            raise BrokenOffError("no answer")


async def _body(
    reader: asyncio.StreamReader, connection: h11.Connection, size: int
) -> AsyncIterator[bytes]:
    gathered: list[bytes] = []
    while True:
        event = _event(connection)
        if isinstance(event, h11.Data):
            gathered.append(bytes(event.data))
        elif event is h11.NEED_DATA:
            if gathered:
                yield b"".join(gathered)
                gathered.clear()
            # what has arrived is read without a pause, which others need
            await asyncio.sleep(0)
            connection.receive_data(await _read(reader, size))
        else:
            break
    if gathered:
        yield b"".join(gathered)
    if not isinstance(event, h11.EndOfMessage):
        raise BrokenOffError("incomplete answer")


async def _next_event(reader: asyncio.StreamReader, connection: h11.Connection) -> object:
    while (event := _event(connection)) is h11.NEED_DATA:
        connection.receive_data(await _read(reader, _CHUNKED))
    return event


def _event(connection: h11.Connection) -> object:
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as exc:
        raise BrokenOffError(str(exc)) from exc


async def _read(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.read(size)
    except OSError as exc:
        raise BrokenOffError(str(exc)) from exc
