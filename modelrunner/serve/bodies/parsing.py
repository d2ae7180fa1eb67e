"""Bodies are read beside the loop: a small one at once, a larger one by a child process.

A parser in C holds Python's lock for as long as it works, in a thread too; only another process
leaves the loop free. Bodies of a like size share a child, so that nobody waits behind much larger
ones, and each child reads one at a time: what they take of the memory is bounded.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from modelrunner.serve.bodies.fields import InvalidBodyError
from modelrunner.wire import parse_json

INLINE = 16 * 1024
"""Bytes of the largest body that is read in the loop: in a few milliseconds, whatever it holds."""

_MIDDLING = 1024 * 1024
_PIECE = 256 * 1024

Found = tuple[Mapping[str, Any], Sequence[bytes]]
"""What was found in a body: a small object of JSON, and what is as large as the body may be."""

Work = Callable[..., Found]
"""A function that reads bodies: one of a module, which a child can import."""

_COMMAND = (sys.executable, "-P", "-m", "modelrunner.serve.bodies.parse_child")


class ParserFailedError(Exception):
    """The child ended twice over one body."""


@dataclass(slots=True)
class _Child:
    """A process that reads bodies, started for the first one."""

    _process: asyncio.subprocess.Process | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, work: Work, bodies: Sequence[bytes | bytearray]) -> Found:
        async with self._turn:
            for _try in range(2):
                found = await self._asked(work, bodies)
                if found is not None:
                    return _understood(*found)
        raise ParserFailedError

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _asked(
        self, work: Work, bodies: Sequence[bytes | bytearray]
    ) -> tuple[bytes, Sequence[bytes]] | None:
        """What a child says of bodies; None where it has ended."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *_COMMAND, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        found = None
        try:
            if stdin is not None and stdout is not None:
                head = {
                    "module": work.__module__,
                    "name": work.__name__,
                    "sizes": [len(raw) for raw in bodies],
                }
                stdin.write(json.dumps(head).encode() + b"\n")
                for raw in bodies:
                    for piece in pieces(raw):
                        stdin.write(piece)
                        await stdin.drain()
                sizes = parse_json(await stdout.readline() or b"null")
                if sizes is not None:
                    first, *rest = [await stdout.readexactly(size) for size in sizes]
                    found = first, tuple(rest)
        except (OSError, EOFError):
            pass
        finally:
            # also where the client has gone away: half a body is in the pipe
            if found is None:
                await asyncio.shield(self.close())
        return found


@dataclass(slots=True)
class Parser:
    """Reads bodies, of whatever size."""

    _children: tuple[_Child, _Child] = field(default_factory=lambda: (_Child(), _Child()))

    async def run(self, work: Work, *bodies: bytes | bytearray) -> Found:
        """Return what a function finds in bodies.

        Raises:
            InvalidBodyError: One of them is not what it should be.
            ParserFailedError: They end the process that reads them.
        """
        size = sum(map(len, bodies))
        if size <= INLINE:
            return work(*bodies)
        return await self._children[size > _MIDDLING].run(work, bodies)

    async def close(self) -> None:
        """End the children."""
        await asyncio.gather(*(child.close() for child in self._children))


def pieces(raw: bytes | bytearray) -> Iterable[memoryview]:
    """The bytes of a body in pieces that can be written without holding others up."""
    view = memoryview(raw)
    return (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))


def _understood(raw: bytes, parts: Sequence[bytes]) -> Found:
    said = parse_json(raw)
    if "found" in said:
        return said["found"], parts
    raise InvalidBodyError(said["message"], said["code"])
