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
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} never came, but {self.seen!r}"
            try:
                self.seen += self._decoder.decode(self._read())
            except OSError:
                pytest.fail(f"it ended before {text!r} came, and said {self.seen!r}")
            self.seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)
        before, _, self.seen = self.seen.partition(text)
        return before

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
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """A program that has a terminal of its own; whatever is left of it is killed in the end."""
    master, slave = pty.openpty()
    terminal = Terminal(master)
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLING, *command],
        env={**environ, "TERM": term, "PROMPT_TOOLKIT_NO_CPR": "1"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        start_new_session=True,
    )
    os.close(slave)
    with process:
        try:
            yield terminal, process
        finally:
            process.kill()
            terminal.hang_up()


@contextmanager
def chatting(
    models: CommandLine, *arguments: str, name: str = SMOLLM2
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """A chat at its first prompt."""
    command = models.argv("run", name, *arguments)
    with in_terminal(command, models.environ) as (terminal, process):
        terminal.wait_for("Send a message (/? for help)")
        yield terminal, process
