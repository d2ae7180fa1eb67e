"""What the user types in a chat: messages with editing and history; Tab completes.

Enter sends, Alt-Enter starts a new line. A message that starts with three quotes ends
with three quotes.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from modelrunner.cli.chat.slash_commands.commands import NAMES, PATH_COMMANDS
from modelrunner.cli.rendering.writer import await_line, write
from modelrunner.disk.files import write_lightly
from modelrunner.wire import parse_json

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.formatted_text import AnyFormattedText
    from prompt_toolkit.input import Input
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.output import Output


_MENTION = re.compile(r'(?:^|\s)@(?P<path>"[^"\n]*|[^\s"]*)$')
_ARGUMENT = re.compile(rf"(?:{'|'.join(PATH_COMMANDS)})\s+(?P<path>.*)$", re.DOTALL)


def completer() -> "Completer":
    """Return a completer of commands, and of paths after `@` and commands."""
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    paths = PathCompleter(expanduser=True)

    class ChatCompleter(Completer):
        def get_completions(
            self, document: "Document", complete_event: "CompleteEvent"
        ) -> "Iterable[Completion]":
            text = document.text_before_cursor
            mention = _MENTION.search(text)
            place = mention or _ARGUMENT.match(text)
            if place is None:
                named = (name for name in NAMES if text.startswith("/") and name.startswith(text))
                yield from (Completion(name, -len(text)) for name in named)
                return
            typed = place["path"]
            quoted = typed.startswith('"')
            path = typed.removeprefix('"')
            for found in paths.get_completions(Document(path), complete_event):
                if mention and not quoted and " " in found.text:
                    whole = f'"{path}{found.text}"'
                    yield Completion(whole, -len(path), display=found.display)
                else:
                    yield found

    return ChatCompleter()


_QUOTES = '"""'
_KEPT = 1000

PLACEHOLDER = "Send a message (/? for help)"
"""Placeholder of an empty line."""


class Prompt(Protocol):
    """A source of messages."""

    def read(self) -> str:
        """The next message as typed.

        Raises:
            EOFError: The user leaves, or the terminal is gone.
            KeyboardInterrupt: The user pressed Ctrl-C.
        """


class TerminalPrompt:
    """Messages from a terminal, with prompt_toolkit.

    Args:
        history: Messages of earlier chats, oldest first.
        source: The source of keys; the terminal by default.
        screen: The terminal that the line is drawn on; the real one by default.
    """

    def __init__(
        self,
        history: Sequence[str] = (),
        *,
        source: "Input | None" = None,
        screen: "Output | None" = None,
    ) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.output import create_output

        self._session: PromptSession[str] = PromptSession(
            "> ",
            multiline=True,
            prompt_continuation=". ",
            placeholder=_placeholder,
            history=InMemoryHistory(list(history)),
            key_bindings=_key_bindings(),
            search_ignore_case=True,
            completer=completer(),
            complete_while_typing=False,
            enable_suspend=True,
            enable_open_in_editor=True,
            input=source,
            # on stderr if the answers are piped to somewhere else
            output=screen or create_output(always_prefer_tty=True),
        )

    def read(self) -> str:
        """The next message as typed; see `Prompt`."""
        return self._session.prompt()


class LinePrompt:
    """Messages typed as lines, with the terminal's own editing: for terminals that cannot redraw.

    A screen reader gets text only.

    Args:
        source: The source of lines.
        screen: The stream of the prompt.
    """

    def __init__(self, source: TextIO, screen: TextIO) -> None:
        self._source = source
        self._screen = screen
        self._greeting = f"{PLACEHOLDER}\n"

    def read(self) -> str:
        """The next message as typed; see `Prompt`."""
        text = self._line(f"{self._greeting}> ")
        self._greeting = ""
        while is_open(text):
            text += "\n" + self._line(". ")
        return text

    def _line(self, question: str) -> str:
        write(self._screen, question)
        await_line(self._source)
        line = self._source.readline()
        if not line:
            write(self._screen, "\n")
            raise EOFError
        return line.removesuffix("\n")


def _placeholder() -> "AnyFormattedText":
    """Return the placeholder of an empty line; it does not stay on the screen."""
    from prompt_toolkit.application import get_app

    app = get_app()
    away = app.is_done or app.layout.is_searching
    return [] if away else [("ansibrightblack", PLACEHOLDER)]


def _key_bindings() -> "KeyBindings":
    from prompt_toolkit.filters import has_focus, is_searching
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    bindings = KeyBindings()
    typing = has_focus("DEFAULT_BUFFER") & ~is_searching

    @bindings.add("enter", filter=typing)
    @bindings.add("c-j", filter=typing)
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_open(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter", filter=typing)
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def is_open(text: str) -> bool:
    """Whether a message that started with three quotes has not ended."""
    return text.startswith(_QUOTES) and text.count(_QUOTES) % 2 == 1


def unquote(text: str) -> str:
    """Return a message without the three quotes around all of it."""
    stripped = text.strip()
    around = stripped.startswith(_QUOTES) and stripped.endswith(_QUOTES)
    if not around or stripped.count(_QUOTES) != 2:  # noqa: PLR2004
        return text
    return stripped[len(_QUOTES) : -len(_QUOTES)].strip("\n")


class HistoryFile:
    """Messages in a file, one JSON string a line, readable by the user only.

    A file that cannot be read counts as empty, and write errors are ignored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[str]:
        """Return the messages of earlier chats, oldest first."""
        try:
            # outside: the history, in the state directory of one person
            lines = self._path.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return []
        entries = [entry for line in lines if (entry := _entry(line)) is not None]
        if len(lines) > 2 * _KEPT:
            self._shorten(entries[-_KEPT:])
        return entries[-_KEPT:]

    def append(self, text: str) -> None:
        """Append one message."""
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # outside: the history, in the state directory of one person
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                self._path.chmod(0o600)
                # one write a call: two chats may share the file
                os.write(file, _lines([text]))
            finally:
                os.close(file)

    def _shorten(self, entries: Sequence[str]) -> None:
        with suppress(OSError):
            write_lightly(self._path, _lines(entries), private=True)


def _lines(entries: Sequence[str]) -> bytes:
    return "".join(f"{json.dumps(entry)}\n" for entry in entries).encode()


def _entry(line: str) -> str | None:
    try:
        entry = parse_json(line)
    except ValueError:
        return None
    return entry if isinstance(entry, str) else None
