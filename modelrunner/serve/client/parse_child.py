"""The process that reads large bodies for a gateway, which serves others meanwhile.

Eight bytes with a length and as many of a body come on stdin; a line of JSON goes to stdout: the
fields, or what is wrong. The end of stdin is its end, so it never outlives the gateway.
"""

import io
import json
import os
import signal
from contextlib import suppress
from dataclasses import asdict

from modelrunner.serve.client.fields import InvalidBodyError, read_fields

MEMORY_LIMIT = 1024 * 1024 * 1024
"""Bytes of address space; a body of 64 MiB takes half of it where its text needs four bytes a
character."""

_HEAD = 8


def main() -> None:
    """Answer until stdin ends."""
    # the gateway decides what ends it: a terminal's Ctrl-C reaches both
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory()
    # outside: what stdin is
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        while head := _read(stdin, _HEAD):
            raw = _read(stdin, int.from_bytes(head, "big"))
            if raw is None:
                return
            os.write(1, answer(raw))


def answer(raw: bytearray) -> bytes:
    """Return the line that says what matters of a body."""
    try:
        found: dict[str, object] = {"fields": asdict(read_fields(raw))}
    except InvalidBodyError as exc:
        found = {"message": exc.message, "code": exc.code}
    except MemoryError:
        found = {"message": "the request takes too much memory", "code": "request_too_large"}
    return json.dumps(found).encode() + b"\n"


def _read(stdin: io.RawIOBase, size: int) -> bytearray | None:
    """So many bytes; None where they end before."""
    raw = bytearray(size)
    view = memoryview(raw)
    while view:
        count = stdin.readinto(view)
        if not count:
            return None
        view = view[count:]
    return raw


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:
        return
    with suppress(ValueError, OSError):
        _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, hard))


if __name__ == "__main__":
    main()
