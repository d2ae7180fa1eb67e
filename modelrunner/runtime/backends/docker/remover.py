"""The process that removes a container as soon as the process that started it is gone.

    modelrunner --> supervisor --> program that owns the container --lifeline--> remover

The lifeline is a pipe that nothing is written to. It closes when the program is done, and when it
is killed; the remover has a session of its own, so that what ends the program's does not end it
too.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelrunner.runtime.backends.docker import socket

_TRIES = 50
_BETWEEN_S = 0.1
_DONE = 204
_GONE = 404
_SURE = 3
"""Times that it must not be there: one that was being made when we asked comes a moment later."""


@contextmanager
def removed_at_the_end(daemon: Path, name: str) -> Iterator[None]:
    """The block in which a container of this name may be there, and after which it is not."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(daemon), name],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ):
        # leaving closes the pipe, and waits
        yield


def main() -> None:
    """Wait for the end of stdin, then remove the container that is named."""
    daemon, name = Path(sys.argv[1]), sys.argv[2]
    sys.stdin.buffer.read()
    absent = 0
    for _ in range(_TRIES):
        answer = socket.status(daemon, "DELETE", f"/containers/{name}?force=true&v=true")
        absent += answer == _GONE
        if answer == _DONE or absent == _SURE:
            return
        time.sleep(_BETWEEN_S)


if __name__ == "__main__":
    main()
