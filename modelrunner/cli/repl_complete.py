"""Completion in a chat: commands, and paths where one is expected."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from modelrunner.cli.repl_commands import NAMES, PATH_COMMANDS

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

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
