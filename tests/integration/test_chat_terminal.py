"""The chat on a real terminal: what the keys do, and what happens when the terminal goes away."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.openai_server import OpenAIServer, says, waits
from tests.support.terminal import Terminal, in_terminal

PROGRAM = """
import pathlib, sys
from modelrunner.chat.client import ChatClient
from modelrunner.chat.conversation import Conversation
from modelrunner.cli.chat.loop import chat
from modelrunner.cli.chat.session import Session
session = Session(ChatClient(sys.argv[1], None, "m"), Conversation(), "ai/smollm2", 512)
chat(session, out=sys.stdout, err=sys.stderr)
pathlib.Path(sys.argv[2]).write_text(str(len(session.conversation.turns)))
"""

# buffered as it is for everyone: what is left in a buffer may fail when the interpreter ends
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@contextmanager
def chatting(
    server: OpenAIServer, left: Path
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    command = [sys.executable, "-c", PROGRAM, server.url, str(left)]
    with in_terminal(command, _ENVIRONMENT) as (terminal, child):
        terminal.wait_for("Send a message (/? for help)")
        yield terminal, child


def test_a_chat_from_the_first_key_to_the_last(server: OpenAIServer, tmp_path: Path) -> None:
    left = tmp_path / "left"
    server.next(waits("Once ", "upon "), says("Fine."))
    with chatting(server, left) as (terminal, child):
        terminal.type("a story\r")
        terminal.wait_for("Once upon")
        terminal.type("\x03")
        terminal.wait_for("(stopped)")
        assert server.gone.wait(60)
        terminal.wait_for("> ")
        terminal.type("\x03")
        terminal.wait_for("press Ctrl-D or type /bye to leave")
        terminal.wait_for("> ")
        terminal.type("well?\r")
        terminal.wait_for("Fine.")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert child.wait(60) == 0
    assert left.read_text() == "4"


def test_a_terminal_that_goes_away_at_the_prompt_ends_the_chat(
    server: OpenAIServer, tmp_path: Path
) -> None:
    left = tmp_path / "left"
    with chatting(server, left) as (terminal, child):
        terminal.hang_up()
        assert child.wait(60) == 0
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
        assert child.wait(60) == 0
        assert server.gone.wait(60)
    assert left.read_text() == "2"
