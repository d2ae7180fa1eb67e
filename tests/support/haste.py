"""What tests need not wait for: a disk that lasts through a power cut, a server that looks around.

No test cuts the power but those of `tests/faults`, whose commands are loaded with a library of
their own: what is flushed, and when, is seen in calls. A flush takes milliseconds on a disk that
others write to, and there are tens of thousands in a run.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch


def flushed(handle: int) -> None:
    """What `os.fsync` does but for the disk: it fails where nothing is open."""
    os.fstat(handle)


@contextmanager
def gateways() -> Iterator[None]:
    """The block in which uvicorn looks a hundred times a second whether it is to end, and waits as
    little for its connections to close, where it looks ten times; and in which the end of a
    runtime, which a scripted one has told by then, is not waited for.
    """
    # most tests have no gateway, and its libraries may be missing
    import uvicorn.server

    from modelrunner.serve import pool

    with (
        patch.object(uvicorn.server, "asyncio", _Hasty()),
        patch.object(pool, "_DEATH_S", 0.0),
    ):
        yield


class _Hasty:
    """`asyncio` for a module whose pauses are ten times shorter."""

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 10)
