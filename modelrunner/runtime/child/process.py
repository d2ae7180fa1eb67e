"""A child process under a supervisor: started, heard, ended, and never left behind."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

from modelrunner.disk.inside import open_inside
from modelrunner.frozen import field, frozen
from modelrunner.runtime.child import supervisor

GRACE_S = 5.0
"""How long a child may take to end when it is asked to."""

_LONGEST_LINE = 65536


@frozen(kw_only=True)
class Command:
    """What to run.

    Attributes:
        argv: The program, by its absolute path, and its arguments: every user can read them.
        environ: The whole environment of the child; secrets may be in here.
        stdin: What the child reads, to the end; secrets may be in here.
        announces: Whether the child writes one line to `supervisor.ANNOUNCEMENT_FD`.
    """

    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    stdin: str | None = field(default=None, repr=False)
    announces: bool = False


class Child:
    """A running command; its output goes to the log.

    It gets a session of its own, so that Ctrl-C at the terminal is ours alone, and starts in the
    root directory: llama.cpp loads backends from the current one, which may be another user's.
    """

    def __init__(self, command: Command, log: Path) -> None:
        with _open_log(log) as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=os.sep,
                bufsize=0,
                start_new_session=True,
            )
        self._lifeline = _pipe(self._process.stdin)
        self._announcements = _pipe(self._process.stdout)
        self._received = b""
        order = {
            "argv": command.argv,
            "environ": dict(command.environ),
            "input": command.stdin,
            "announces": command.announces,
        }
        self._tell(json.dumps(order).encode() + b"\n")

    @property
    def pid(self) -> int:
        """The supervisor's process ID: the child ends when it does."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How the child ended, 128 + N for signal N; None while it runs."""
        return self._process.poll()

    def alive(self) -> bool:
        """Whether it runs."""
        return self.exit_code is None

    def listen(self, seconds: float) -> str | None:
        """Wait for the child's line; None when it did not come in time or will not come."""
        if self._announcements.closed:
            return None
        with selectors.DefaultSelector() as selector:
            selector.register(self._announcements, selectors.EVENT_READ)
            if not selector.select(seconds):
                return None
        chunk = os.read(self._announcements.fileno(), _LONGEST_LINE)
        self._received += chunk
        if not chunk:
            # the child and the supervisor both closed it, so they are ending
            self._process.wait(GRACE_S)
        line, newline, self._received = self._received.partition(b"\n")
        return line.decode(errors="replace") if newline else None

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; how it ended, None where it still runs then."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Ask it to end, after a while make it. Doing it twice does no harm."""
        if self.alive():
            self._process.terminate()  # the supervisor passes it on
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._lifeline.close()
        self._announcements.close()

    def _tell(self, line: bytes) -> None:
        view = memoryview(line)
        try:
            while view:
                view = view[self._lifeline.write(view) :]
        except BrokenPipeError:
            # the supervisor did not come up: `alive` says so, and the log why
            self._process.wait()


def _open_log(log: Path) -> IO[bytes]:
    """An empty log that only its owner can read."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = open_inside(log, "append", private=True)
    file.truncate(0)
    return cast("IO[bytes]", file)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("Popen was asked for a pipe")
    return stream
