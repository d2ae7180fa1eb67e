"""Terminals that cannot move a cursor, and people who have the screen read to them: only lines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.gguf import tiny_gguf
from tests.support.openai_server import OpenAIServer, calls, says
from tests.support.registry import Registry
from tests.support.terminal import Terminal, in_terminal

LOOKS = [("dumb", ()), ("xterm", ("--plain",))]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def models(cli: CommandLine, tmp_path: Path) -> CommandLine:
    """The command line with a model that a server elsewhere runs."""
    assert not cli("package", str(tiny_gguf(tmp_path / "m.gguf")), "ai/tiny:x").returncode
    return cli


def assert_plain(terminal: Terminal) -> None:
    """Nothing but lines came."""
    terminal.drain()
    shown = terminal.raw.replace(b"\r\n", b"\n").replace(b"^C", b"")
    assert shown
    assert not set(shown) & {*range(9), *range(11, 32), 127}, shown


@pytest.mark.parametrize(("term", "options"), LOOKS)
@pytest.mark.parametrize(
    "command",
    [
        "list",
        "ps",
        "df",
        "doctor",
        "estimate ai/tiny:x",
        "card ai/smollm2",
        "cards granite",
        "search granite --offline",
        "inspect ai/tiny:x",
        "nosuch",
        "--help",
    ],
)
def test_commands_print_lines(
    models: CommandLine, term: str, options: tuple[str, ...], command: str
) -> None:
    line = models.argv(*options, *command.split())
    with in_terminal(line, models.environ, term=term) as (terminal, _):
        assert_plain(terminal)


@pytest.mark.parametrize(("term", "options"), LOOKS)
def test_a_pull_prints_lines(
    cli: CommandLine, registry: Registry, tiny: Artifact, term: str, options: tuple[str, ...]
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    line = cli.argv("pull", registry.reference("team/tiny:1"), *options)
    with in_terminal(line, cli.environ, term=term) as (terminal, child):
        assert_plain(terminal)
        assert child.wait(30) == 0


@pytest.mark.parametrize(("term", "options"), LOOKS)
def test_a_chat_is_lines_and_answers_as_they_come(
    models: CommandLine, server: OpenAIServer, term: str, options: tuple[str, ...]
) -> None:
    server.next(says("- *a*\n", "- b\n", thinks=("Hm.",)), says("Two."))
    line = models.argv("run", "ai/tiny:x", "--runtime", server.url, *options)
    with in_terminal(line, models.environ, term=term) as (terminal, child):
        terminal.wait_for("Send a message (/? for help)\r\n> ")
        terminal.type("hi\n")
        assert terminal.wait_for("> ") == "hi\r\nthinking\r\n\r\n- *a*\r\n- b\r\n"
        terminal.type('"""two\n')
        terminal.wait_for(". ")
        terminal.type('lines"""\n')
        terminal.wait_for("Two.\r\n> ")
        terminal.press_until("\x03", "press Ctrl-D or type /bye to leave\r\n> ")
        terminal.type("\x04")
        assert child.wait(30) == 0
        assert_plain(terminal)
    assert server.requests[1].body["messages"][-1]["content"] == "two\nlines"
    assert not list(models.home.rglob("history"))


@pytest.mark.parametrize(("term", "options"), LOOKS)
def test_one_answer_and_the_question_before_a_tool_are_lines(
    models: CommandLine,
    server: OpenAIServer,
    tmp_path: Path,
    term: str,
    options: tuple[str, ...],
) -> None:
    (tmp_path / "now.py").write_text('def now() -> str:\n    """The time."""\n    return "noon"\n')
    server.next(calls(("now", "{}")), says("It is **noon**."))
    arguments = ("run", "ai/tiny:x", "--runtime", server.url, "--tools", str(tmp_path / "now.py"))
    line = models.argv(*arguments, *options, "what time is it?")
    with in_terminal(line, models.environ, term=term) as (terminal, child):
        terminal.wait_for("call now()? [y]es, [n]o, [a]lways: ")
        terminal.type("y\n")
        terminal.wait_for("It is **noon**.\r\n")
        assert child.wait(30) == 0
        assert_plain(terminal)


@pytest.mark.parametrize(("term", "options"), LOOKS)
def test_a_login_asks_in_lines(
    cli: CommandLine, registry: Registry, term: str, options: tuple[str, ...]
) -> None:
    line = cli.argv("login", registry.reference("x").partition("/")[0], *options)
    with in_terminal(line, cli.environ, term=term) as (terminal, child):
        terminal.wait_for("Username: ")
        terminal.type("me\n")
        terminal.wait_for("Password or token: ")
        terminal.type("secret\n")
        child.wait(30)
        assert_plain(terminal)


def test_one_answer_is_drawn_on_a_terminal(models: CommandLine, server: OpenAIServer) -> None:
    server.next(says("- *a* ", "b\n"), says("- *a* ", "b\n"))
    line = models.argv("run", "ai/tiny:x", "--runtime", server.url)
    with in_terminal([*line, "list"], models.environ) as (terminal, child):
        terminal.wait_for(" • a b")
        assert child.wait(60) == 0
    assert models(*line[3:], "list").stdout == "- *a* b\n"


def test_a_chat_with_another_server_shows_all_of_an_answer(
    models: CommandLine, server: OpenAIServer
) -> None:
    server.next(says(*["word "] * 5000, "\n\nThe end."))
    line = models.argv("run", "ai/tiny:x", "--runtime", server.url)
    with in_terminal(line, models.environ) as (terminal, child):
        terminal.wait_for("Send a message")
        terminal.type("a long one\r")
        terminal.wait_for("The end.")
        terminal.wait_for("Send a message")
        terminal.type("\x04")
        assert child.wait(60) == 0
