"""The person's side of a terminal in which a chat runs."""

import codecs
import errno
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support import forked

SMOLLM2 = "ai/smollm2:135M-Q4_1"


class Terminal:
    """The person's side of a terminal."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.seen = ""
        self.raw = b""
        """All that came, as it came."""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """What was shown until then, control sequences left out."""
        assert self._reads(text, seconds), f"{text!r} never came, but {self.seen!r}"
        before, _, self.seen = self.seen.partition(text)
        return before

    def press_until(self, key: str, text: str, seconds: float = 60) -> None:
        """Presses a key until it has the effect that this is shown.

        Python overlooks a Ctrl-C between the prompt and the reading of a line, until another key.
        """
        end = time.monotonic() + seconds
        while True:
            self.type(key)
            if self._reads(text, seconds / 6):
                break
            assert time.monotonic() < end, f"{text!r} never came, but {self.seen!r}"
        self.seen = self.seen.partition(text)[2]

    def _reads(self, text: str, seconds: float) -> bool:
        """Whether it is shown in time."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            if not ready:
                return False
            try:
                self.seen += self._decoder.decode(self._read())
            except OSError:
                pytest.fail(f"it ended before {text!r} came, and said {self.seen!r}")
            self.seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)
        return True

    def _read(self) -> bytes:
        chunk = os.read(self.master, 65536)
        self.raw += chunk
        return chunk

    def hang_up(self) -> None:
        """The terminal goes away, if it is there yet."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def drain(self) -> str:
        """Everything up to the end."""
        seen = b""
        while True:
            try:
                chunk = self._read()
            except OSError as exc:
                if exc.errno == errno.EIO:
                    return seen.decode()
                raise
            if not chunk:
                return seen.decode()
            seen += chunk


Process = subprocess.Popen[bytes] | forked.InTerminal

CONTROLLING = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@contextmanager
def in_terminal(
    command: list[str],
    environ: Mapping[str, str],
    *,
    term: str = "xterm",
    folder: Path | None = None,
) -> Iterator[tuple[Terminal, Process]]:
    """A program that has a terminal of its own; whatever is left of it is killed in the end."""
    master, slave = pty.openpty()
    terminal = Terminal(master)
    process = _start(
        command, {**environ, "TERM": term, "PROMPT_TOOLKIT_NO_CPR": "1"}, slave, folder
    )
    os.close(slave)
    with process:
        try:
            yield terminal, process
        finally:
            process.kill()
            terminal.hang_up()


def _start(
    command: list[str], environ: Mapping[str, str], terminal: int, folder: Path | None
) -> Process:
    return forked.in_terminal(command, environ, terminal, folder) or subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", CONTROLLING, *command],
        env=environ,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=folder,
        start_new_session=True,
    )


@contextmanager
def chatting(
    models: CommandLine, *arguments: str, name: str = SMOLLM2
) -> Iterator[tuple[Terminal, Process]]:
    """A chat at its first prompt."""
    command = models.argv("run", name, *arguments)
    with in_terminal(command, models.environ) as (terminal, process):
        terminal.wait_for("Send a message (/? for help)")
        yield terminal, process
