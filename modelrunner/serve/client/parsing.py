"""Bodies are read beside the loop: a small one at once, a larger one by a child process.

A parser in C holds Python's lock for as long as it works, in a thread too; only another process
leaves the loop free. Bodies of a like size share a child, so that nobody waits behind much larger
ones, and each child reads one at a time: what they take of the memory is bounded.
"""

import asyncio
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from modelrunner.serve.client.fields import Fields, InvalidBodyError, read_fields
from modelrunner.wire import parse_json

INLINE = 16 * 1024
"""Bytes of the largest body that is read in the loop: in a few milliseconds, whatever it holds."""

_MIDDLING = 1024 * 1024
_PIECE = 256 * 1024
_HEAD = 8
_COMMAND = (sys.executable, "-P", "-m", "modelrunner.serve.client.parse_child")


class ParserFailedError(Exception):
    """The child ended twice over one body."""


@dataclass(slots=True)
class _Child:
    """A process that reads bodies, started for the first one."""

    _process: asyncio.subprocess.Process | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, raw: bytearray) -> Fields:
        async with self._turn:
            for _try in range(2):
                line = await self._asked(raw)
                if line:
                    return _understood(line)
        raise ParserFailedError

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _asked(self, raw: bytearray) -> bytes:
        """The line for a body; empty where the child has ended."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *_COMMAND, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        line = b""
        try:
            if stdin is not None and stdout is not None:
                stdin.write(len(raw).to_bytes(_HEAD, "big"))
                for piece in pieces(raw):
                    stdin.write(piece)
                    await stdin.drain()
                line = await stdout.readline()
        except OSError:
            pass
        finally:
            # also where the client has gone away: half a body is in the pipe
            if not line.endswith(b"\n"):
                line = b""
                await asyncio.shield(self.close())
        return line


@dataclass(slots=True)
class Parser:
    """Reads bodies, of whatever size."""

    _children: tuple[_Child, _Child] = field(default_factory=lambda: (_Child(), _Child()))

    async def read(self, raw: bytearray) -> Fields:
        """Return what matters of a body.

        Raises:
            InvalidBodyError: It is not a request.
            ParserFailedError: It ends the process that reads it.
        """
        if len(raw) <= INLINE:
            return read_fields(raw)
        return await self._children[len(raw) > _MIDDLING].read(raw)

    async def close(self) -> None:
        """End the children."""
        await asyncio.gather(*(child.close() for child in self._children))


def pieces(raw: bytes | bytearray) -> Iterable[memoryview]:
    """The bytes of a body in pieces that can be written without holding others up."""
    view = memoryview(raw)
    return (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))


def _understood(line: bytes) -> Fields:
    found = parse_json(line)
    if "fields" in found:
        return Fields(**found["fields"])
    raise InvalidBodyError(found["message"], found["code"])
