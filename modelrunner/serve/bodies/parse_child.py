"""The process that reads large bodies for a gateway, which serves others meanwhile.

A line of JSON comes on stdin, which names a function and the lengths of bodies, and the bodies. A
line with lengths goes to stdout, and what has these: first JSON with what was found, or what is
wrong, then what is too large for it. The end of stdin is its end, so it never outlives the gateway.
"""

import io
import json
import signal
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from modelrunner.serve.bodies.fields import InvalidBodyError

MEMORY_LIMIT = 1024 * 1024 * 1024
"""Bytes of address space; a body of 64 MiB takes half of it where its text needs four bytes a
character."""


def main() -> None:
    """Answer until stdin ends."""
    # the gateway decides what ends it: a terminal's Ctrl-C reaches both
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory()
    # outside: what stdin is
    with open(0, "rb", closefd=False) as stdin, open(1, "wb", closefd=False) as stdout:
        while line := stdin.readline():
            # trusted: the gateway's own
            head = json.loads(line)
            bodies = [_read(stdin, size) for size in head["sizes"]]
            if None in bodies:
                return
            parts = answer(head["module"], head["name"], bodies)
            stdout.write(json.dumps([len(part) for part in parts]).encode() + b"\n")
            stdout.writelines(parts)
            stdout.flush()


def answer(module: str, name: str, bodies: Sequence[object]) -> list[bytes]:
    """Return what a function finds in bodies."""
    parts: Sequence[bytes] = ()
    try:
        found, parts = getattr(import_module(module), name)(*bodies)
        said: dict[str, object] = {"found": found}
    except InvalidBodyError as exc:
        said = {"message": exc.message, "code": exc.code}
    except MemoryError:
        said = {"message": "the request takes too much memory", "code": "request_too_large"}
    return [json.dumps(said).encode(), *parts]


def _read(stdin: io.BufferedReader, size: int) -> bytearray | None:
    """So many bytes; None where they end before."""
    raw = bytearray(size)
    return raw if stdin.readinto(raw) == size else None


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
