"""Streams of events, as runtimes send them."""

import re
from collections.abc import AsyncIterator

_LONGEST = 16 * 1024 * 1024
"""Bytes of one event: a runtime that sends more has failed."""

_END = re.compile(rb"\r?\n\r?\n")
_LONGEST_END = 4


class LongEventError(Exception):
    """A runtime sends an event that does not end."""


async def event_data(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each event of a stream, as its bytes come.

    Older releases of llama-server call the data of an error `error`; it is made data here.

    Raises:
        LongEventError: An event does not end.
    """
    rest = bytearray()
    async for piece in body:
        seen = max(0, len(rest) - _LONGEST_END)
        rest += piece
        start = 0
        while end := _END.search(rest, max(seen, start)):
            data = _data(bytes(rest[start : end.start()]))
            if data:
                yield data
            start = end.end()
        del rest[:start]
        if len(rest) > _LONGEST:
            raise LongEventError
    data = _data(bytes(rest))
    if data:
        yield data


def _data(event: bytes) -> bytes:
    lines = []
    for line in event.splitlines():
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            lines.append(value)
        elif name == b"error":
            lines.append(b'{"error":' + value + b"}")
    return b"\n".join(lines)
