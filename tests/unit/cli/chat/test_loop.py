"""Whole chats: keys through prompt_toolkit, a server over real HTTP, the transcript as one literal.

What the user types is drawn by prompt_toolkit and not part of the transcript.
"""

import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from modelrunner.chat.answer import Usage
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation, Message
from modelrunner.chat.thoughts import Opening
from modelrunner.cli.chat.loop import chat
from modelrunner.cli.chat.prompt import TerminalPrompt
from modelrunner.cli.chat.session import Session
from tests.support.openai_server import (
    OpenAIServer,
    breaks_off,
    context_exceeded,
    fails_midway,
    says,
    waits,
)

CTRL_C, CTRL_D = "\x03", "\x04"

RUNTIME_HINT = "hint: `modelrunner doctor` checks the runtimes\n"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


def session_with(server: OpenAIServer, system: str | None = None, **fields: Any) -> Session:
    client = ChatClient(server.url, "k", "m")
    fields.setdefault("opening", Opening.BY_MODEL)
    return Session(client, Conversation(system), "ai/smollm2", 512, **fields)


class Screen(io.StringIO):
    """A terminal whose user presses Ctrl-C at the sight of a word."""

    def __init__(self, feared: str | None = None) -> None:
        super().__init__()
        self._feared = feared

    def write(self, text: str) -> int:
        count = super().write(text)
        if self._feared is not None and self._feared in text:
            self._feared = None
            signal.raise_signal(signal.SIGINT)
        return count


def talk(session: Session, *lines: str, screen: Screen | None = None, **settings: Any) -> str:
    """The transcript of a chat in which the user types these lines and leaves."""
    screen = screen or Screen()
    with create_pipe_input() as source:
        source.send_text("".join(f"{line}\r" for line in lines) + CTRL_D)
        prompt = TerminalPrompt(source=source, screen=DummyOutput())
        chat(session, out=screen, err=screen, prompt=prompt, **settings)
    return screen.getvalue()


def test_a_chat_remembers_what_was_said(server: OpenAIServer) -> None:
    server.next(says("Hel", "lo!"), says("You said hi."))
    session = session_with(server, "be brief")
    assert talk(session, "hi", "", "  what did I say?  ") == "Hello!\nYou said hi.\n"
    assert server.requests[1].body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "what did I say?"},
    ]


def test_thoughts_are_shown_and_not_sent_back(server: OpenAIServer) -> None:
    server.next(says("Hi!", thinks=("A greeting.\n", "How nice.")))
    session = session_with(server, thinking="show")
    assert talk(session, "hi") == "thinking\n| A greeting.\n| How nice.\n\nHi!\n"
    assert session.conversation.turns[1] == Message("assistant", "Hi!")


def test_thoughts_in_a_pipe_are_no_part_of_the_answer(server: OpenAIServer) -> None:
    server.next(says("Hi!", thinks=("A greeting.",)), says("<think>Hm.</", "think>\n\nYes."))
    session = session_with(server)
    assert talk(session, "hi", "well?") == "Hi!\nYes.\n"
    assert session.conversation.turns[3] == Message("assistant", "Yes.")


def test_a_runtime_that_dies_is_started_again_once_and_the_conversation_goes_on(
    server: OpenAIServer,
) -> None:
    server.next(says("Hello."), breaks_off("I w"), says("I was there."), breaks_off(), breaks_off())
    session = session_with(server)
    started: list[ChatClient] = []

    def restart() -> ChatClient:
        started.append(ChatClient(server.url, "k", "again"))
        return started[-1]

    session.restart = restart
    again = "the runtime stopped and was restarted; the answer starts again from the beginning\n"
    assert talk(session, "hi", "where?", "and?") == (
        f"Hello.\nI w\n{again}I was there.\n{again}error: connection to {server.url} lost in "
        "the middle of the answer\nhint: use a smaller context or model if it ran out of "
        "memory\n"
    )
    assert server.requests[2].body["model"] == "again"
    assert server.requests[2].body["messages"] == server.requests[1].body["messages"]
    assert [turn.content for turn in session.conversation.turns] == [
        "hi",
        "Hello.",
        "where?",
        "I was there.",
    ]
    assert len(started) == 2


def test_a_server_that_lives_is_not_asked_twice(server: OpenAIServer) -> None:
    server.next(breaks_off("I w"))
    assert "error: " in talk(session_with(server, restart=lambda: None), "hi")
    assert len(server.requests) == 1


def test_bytes_that_are_no_text_are_sent_as_question_marks(server: OpenAIServer) -> None:
    with create_pipe_input() as source:
        source.send_bytes(b"caf\xe9\r\x04")
        prompt = TerminalPrompt(source=source, screen=DummyOutput())
        chat(session_with(server), out=Screen(), err=Screen(), prompt=prompt)
    assert server.requests[0].body["messages"] == [{"role": "user", "content": "caf?"}]


@pytest.mark.parametrize("leave", ["/bye", "/exit", "/bye now"])
def test_leaving_leaves(server: OpenAIServer, leave: str) -> None:
    assert talk(session_with(server), leave, "never sent") == ""
    assert server.requests == []


def test_ctrl_c_at_the_prompt_says_how_to_leave(server: OpenAIServer) -> None:
    assert talk(session_with(server), f"half{CTRL_C}hi") == (
        "press Ctrl-D or type /bye to leave\nYou said: hi\n"
    )


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(server: OpenAIServer) -> None:
    server.next(waits("Once ", "upon "))
    session = session_with(server)
    assert talk(session, "a story", "go on", screen=Screen(feared="upon")) == (
        "Once upon \n(stopped)\nYou said: go on\n"
    )
    assert server.gone.wait(60)
    assert session.conversation.turns[:3] == (
        Message("user", "a story"),
        Message("assistant", "Once upon ", stopped=True),
        Message("user", "go on"),
    )


def test_ctrl_c_among_thoughts_keeps_the_turns_alternating(server: OpenAIServer) -> None:
    server.next(waits(thinks=("Hm",)))
    session = session_with(server, thinking="show")
    assert talk(session, "a story", screen=Screen(feared="Hm")) == ("thinking\n| Hm\n\n(stopped)\n")
    assert session.conversation.turns == (
        Message("user", "a story"),
        Message("assistant", "", stopped=True),
    )


def test_a_server_that_breaks_off_leaves_what_it_said(server: OpenAIServer) -> None:
    server.next(breaks_off("I was"))
    session = session_with(server)
    assert talk(session, "hi") == (
        f"I was\nerror: connection to {server.url} lost in the middle of the answer\nhint: "
        "use a smaller context or model if it ran out of memory\n"
    )
    assert session.conversation.turns[1] == Message("assistant", "I was", stopped=True)


def test_a_message_without_any_answer_is_taken_back(server: OpenAIServer) -> None:
    server.next(fails_midway(message="boom"))
    session = session_with(server)
    assert talk(session, "hi") == (f"error: {server.url} failed: boom\n" + RUNTIME_HINT)
    assert session.conversation.turns == ()


def test_escape_sequences_of_the_model_do_not_reach_the_terminal(server: OpenAIServer) -> None:
    server.next(says("a\x1b[3", "1mred\x1b]0;own", "ed\x07 b\r\n"))
    assert talk(session_with(server), "hi") == "ared b\n"


def test_a_context_that_gets_full_is_told_once_and_in_time(server: OpenAIServer) -> None:
    server.next(*(says("ok", usage=(400, count)) for count in (9, 10, 11, 12)))
    told = (
        "context nearly full, 410 of 512 tokens (80%): older messages are not dropped, an answer"
        " that reaches the limit is cut off; `/clear` starts a new conversation\n"
    )
    assert talk(session_with(server), "a", "b", "c") == f"ok\nok\n{told}ok\n"


def test_an_answer_that_is_cut_by_the_context_is_told(server: OpenAIServer) -> None:
    server.next(says("and then", finish="length", usage=(500, 12)))
    assert talk(session_with(server), "a") == (
        "and then\n"
        "the answer was cut off: the context of 512 tokens is full; "
        "`/clear` starts a new conversation\n"
    )


def test_an_answer_that_is_cut_by_max_tokens_is_told(server: OpenAIServer) -> None:
    server.next(says("and then", finish="length", usage=(20, 5)))
    session = session_with(server, options=SamplingOptions(max_tokens=5))
    assert talk(session, "a") == (
        "and then\n"
        "the answer was cut off: it reached `max_tokens`, 5 tokens; `/set max_tokens` changes the"
        " limit\n"
    )


def test_a_prompt_that_is_too_long_says_what_to_do(server: OpenAIServer) -> None:
    server.next(context_exceeded(9000, 512), says("ok"), context_exceeded(600, 512))
    session = session_with(server)
    assert talk(session, "a", "b", "c") == (
        "error: the prompt has 9000 tokens, the context is 512\nhint: shorten the prompt, "
        "or start the model with a larger context\nok\nerror: the prompt has 600 tokens, "
        "the context is 512\nhint: `/clear` starts a new conversation, the up arrow brings "
        "your message back\n"
    )
    assert session.conversation.turns == (Message("user", "b"), Message("assistant", "ok"))


def test_verbose_tells_the_numbers_after_each_answer(server: OpenAIServer) -> None:
    server.next(says("ok"), says("ok", timings=False))
    told = talk(session_with(server, verbose=True, load_s=1.25), "a", "b")
    assert re.sub(r"after 0\.\d\d s", "after TIME", told) == (
        "ok\n"
        "load 1.2 s; first token after TIME; "
        "prompt 20 tokens, 20 of them new at 200.0/s; answer 10 tokens at 50.0/s; "
        "context 30 of 512 tokens (6%)\n"
        "ok\n"
        "load 1.2 s; first token after TIME; "
        "prompt 20 tokens; answer 10 tokens; context 30 of 512 tokens (6%)\n"
    )


def test_files_are_inserted_and_missing_ones_told(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(r"alpha $1 \1")
    Path("b.bin").write_bytes(b"\xff")
    assert talk(session_with(server), "see @b.bin", "see @a.txt @b.txt") == (
        "error: b.bin is not a text file (invalid UTF-8 at byte 0)\n"
        "hint: use a text file, or an image (PNG, JPEG, GIF or BMP)\n"
        "b.txt: file not found, `@` is sent as typed\n"
        "You said: see alpha $1 \\1 @b.txt\n"
    )
    assert len(server.requests) == 1


def test_three_quotes_carry_several_lines_as_they_are(server: OpenAIServer) -> None:
    talk(session_with(server), '"""', "  one", "/bye", '"""')
    assert server.requests[0].body["messages"] == [{"role": "user", "content": "  one\n/bye"}]


def test_history_keeps_messages_and_commands_but_not_the_leaving(
    server: OpenAIServer, tmp_path: Path
) -> None:
    path = tmp_path / "history"
    talk(session_with(server), "hi", "", "/stat", "/bye", history=path)
    assert path.read_text() == '"hi"\n"/stat"\n'


def test_without_a_history_nothing_is_written(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    talk(session_with(server), "hi", "/bye", history=None)
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_that_takes_no_more_ends_the_chat(server: OpenAIServer) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(5, "Input/output error")

    with create_pipe_input() as source:
        source.send_text("hi\rnever sent\r")
        prompt = TerminalPrompt(source=source, screen=DummyOutput())
        chat(session_with(server), out=Gone(), err=Gone(), prompt=prompt)
    assert len(server.requests) == 1


def test_the_hang_up_handler_is_put_back(server: OpenAIServer) -> None:
    before = signal.getsignal(signal.SIGHUP)
    talk(session_with(server), "hi")
    assert signal.getsignal(signal.SIGHUP) is before


def test_importing_the_chat_loads_neither_prompt_toolkit_nor_http() -> None:
    program = (
        "import sys, modelrunner.cli.chat.loop, modelrunner.cli.chat.answer, json;"
        "print(json.dumps([n for n in sys.modules if n.split('.')[0] in"
        " ('prompt_toolkit', 'http', 'asyncio', 'ssl')]))"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert json.loads(told.stdout) == []


def test_an_empty_answer_is_said_and_not_sent_back(server: OpenAIServer) -> None:
    server.next(says(), says(thinks=("Hm.",)), says("Yes."), says("No."))
    session = session_with(server)
    assert talk(session, "one", "two", "three", "/retry") == (
        "the answer is empty; `/retry` tries again\n"
        "no answer: the model was still thinking when its output ended; `/retry` tries again\n"
        "Yes.\nNo.\n"
    )
    for request in server.requests[2:]:
        assert request.body["messages"] == [{"role": "user", "content": "three"}]


def test_an_empty_answer_can_be_asked_for_again(server: OpenAIServer) -> None:
    server.next(says(), says("Yes."))
    talk(session_with(server), "one", "/retry")
    assert server.requests[1].body["messages"] == [{"role": "user", "content": "one"}]


def test_a_stopped_answer_has_numbers(server: OpenAIServer) -> None:
    server.next(waits("Once ", "upon "))
    session = session_with(server)
    talk(session, "tell me a long story", screen=Screen(feared="upon"))
    assert session.last is not None
    assert session.last.finish_reason == "stopped"
    assert session.last.usage == Usage(5, 2)
    told = talk(session, "/stats", "/show")
    assert "stopped: prompt about 5 tokens; answer 2 tokens" in told
    assert "; context about 7 of 512 tokens (1%)\n" in told
    assert "\ncontext        about 7 of 512 tokens (1%)\n" in told
