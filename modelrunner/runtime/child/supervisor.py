"""The process between us and a server: it makes sure that the server never outlives us.

    modelrunner --lifeline--> supervisor --fork--> server
        ^                      |                |
        +------announcement----+--------- fd 3 -+        stdout and stderr of both: the log

The lifeline is a pipe that nothing is written to after the first line. Whatever ends modelrunner,
`kill -9` included, closes it, and the supervisor kills the server at once. It cannot sleep through
that, as a server could that holds Python's lock while it loads. Where the supervisor itself is
killed, Linux kills the server with it.

It runs as a script on the standard library alone, in a fresh interpreter with one thread: so it
may fork, and the server's parent is a thread that lives as long as the supervisor does, which is
what `PR_SET_PDEATHSIG` looks at.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

ANNOUNCEMENT_FD = 3
"""Where a server that announces itself writes its line."""

_PR_SET_PDEATHSIG = 1
_CANNOT_START = 127
_CHUNK = 65536


def main() -> NoReturn:
    """Start what the first line of stdin says, and end when it ends or when stdin does."""
    # trusted: our own parent's order
    order = json.loads(_read_line(0))
    child = _start(order["argv"], order["environ"], order["input"], announces=order["announces"])

    def forward(_number: int, _frame: FrameType | None) -> None:
        os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    threading.Thread(target=_kill_at_end_of_lifeline, args=(child,), daemon=True).start()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    # not sys.exit: the thread may sit in a read, and there is nothing to clean up
    os._exit(code if code >= 0 else 128 - code)


def _read_line(fd: int) -> bytes:
    """The first line; whatever follows would be lost, and nothing follows."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(fd, _CHUNK)
        if not chunk:
            os._exit(_CANNOT_START)
        line += chunk
    return line


def _start(argv: list[str], environ: dict[str, str], text: str | None, *, announces: bool) -> int:
    # outside: a device
    stdin = _pipe_with(text) if text is not None else os.open(os.devnull, os.O_RDONLY)
    # loaded before the fork: afterwards only system calls
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    supervisor = os.getpid()
    child = os.fork()
    if child:
        os.close(stdin)
        return child
    if libc is not None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it died before the line above
        os._exit(_CANNOT_START)
    os.dup2(stdin, 0)
    if announces:
        os.dup2(1, ANNOUNCEMENT_FD)
    os.dup2(2, 1)
    try:
        os.execve(argv[0], argv, environ)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"error: cannot start {argv[0]}: {error.strerror}\n".encode())
    os._exit(_CANNOT_START)


def _pipe_with(text: str) -> int:
    """A pipe's reading end that holds the text: small enough to fit without a reader."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    return reader


def _kill_at_end_of_lifeline(child: int) -> None:
    while os.read(0, _CHUNK):
        pass
    os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
