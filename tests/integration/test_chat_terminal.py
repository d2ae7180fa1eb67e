"""The chat on a real terminal: what the keys do, and what happens when the terminal goes away."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.openai_server import OpenAIServer, says, waits

PROGRAM = """
import fcntl, pathlib, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from modelrunner.chat.client import ChatClient
from modelrunner.chat.conversation import Conversation
from modelrunner.cli.repl import chat
from modelrunner.cli.repl_session import Session
session = Session(ChatClient(sys.argv[1], None, "m"), Conversation(), "ai/smollm2", 512)
chat(session, out=sys.stdout, err=sys.stderr)
pathlib.Path(sys.argv[2]).write_text(str(len(session.conversation.turns)))
"""

# buffered as it is for everyone: what is left in a buffer may fail when the interpreter ends
_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    "TERM": "xterm",
    "PROMPT_TOOLKIT_NO_CPR": "1",
}


class Terminal:
    """The person's side of a terminal."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._seen = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until the text was shown, control sequences left out."""
        end = time.monotonic() + 20
        while text not in self._seen:
            ready, _, _ = select.select([self._master], [], [], end - time.monotonic())
            assert ready, f"{text!r} never came, but {self._seen!r}"
            self._seen += os.read(self._master, 65536).decode()
            self._seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._seen)
        self._seen = self._seen.partition(text)[2]

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        if self._master >= 0:
            self.hang_up()


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@contextmanager
def chatting(
    server: OpenAIServer, left: Path
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    master, slave = pty.openpty()
    terminal = Terminal(master)
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.url, str(left)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=_ENVIRONMENT,
    )
    os.close(slave)
    with child:
        try:
            terminal.wait_for("Send a message (/? for help)")
            yield terminal, child
        finally:
            terminal.close()
            child.kill()


def test_a_chat_from_the_first_key_to_the_last(server: OpenAIServer, tmp_path: Path) -> None:
    left = tmp_path / "left"
    server.next(waits("Once ", "upon "), says("Fine."))
    with chatting(server, left) as (terminal, child):
        terminal.type("a story\r")
        terminal.wait_for("Once upon")
        terminal.type("\x03")
        terminal.wait_for("(stopped)")
        assert server.gone.wait(5)
        terminal.wait_for("> ")
        terminal.type("\x03")
        terminal.wait_for("press Ctrl-D or type /bye to leave")
        terminal.wait_for("> ")
        terminal.type("well?\r")
        terminal.wait_for("Fine.")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert child.wait(10) == 0
    assert left.read_text() == "4"


def test_a_terminal_that_goes_away_at_the_prompt_ends_the_chat(
    server: OpenAIServer, tmp_path: Path
) -> None:
    left = tmp_path / "left"
    with chatting(server, left) as (terminal, child):
        terminal.hang_up()
        assert child.wait(10) == 0
    assert left.read_text() == "0"


def test_a_terminal_that_goes_away_amid_an_answer_ends_the_chat_and_the_answer(
    server: OpenAIServer, tmp_path: Path
) -> None:
    left = tmp_path / "left"
    server.next(waits("Once "))
    with chatting(server, left) as (terminal, child):
        terminal.type("a story\r")
        terminal.wait_for("Once")
        terminal.hang_up()
        assert child.wait(10) == 0
        assert server.gone.wait(5)
    assert left.read_text() == "2"
