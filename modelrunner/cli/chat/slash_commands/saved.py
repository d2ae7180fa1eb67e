"""A conversation in a file, as one JSON object."""

import json
from dataclasses import dataclass
from pathlib import Path

from modelrunner.chat.conversation import Conversation
from modelrunner.disk.files import cannot_write, write_atomically
from modelrunner.errors import UsageError
from modelrunner.text import json_fault, os_hint, os_reason, sanitize_line
from modelrunner.wire import parse_json

_VERSION = 1
_LIMIT = 16 * 1024 * 1024
_HINT = "name a file that `/save` wrote"


@dataclass(frozen=True, slots=True)
class SavedChat:
    """A conversation and the name of its model."""

    model: str
    conversation: Conversation


def save(chat: SavedChat, path: Path) -> None:
    """Write a chat to a new file or over a saved chat, readable by the user only.

    Raises:
        UsageError: The file is not a saved chat, or cannot be written.
    """
    holds_a_chat(path)
    document = {"modelrunner_chat": _VERSION, "model": chat.model, **chat.conversation.to_dict()}
    text = json.dumps(document, indent=2) + "\n"
    try:
        write_atomically(path, text.encode(), private=True)
    except OSError as exc:
        raise cannot_write(exc, sanitize_line(str(path))) from exc


def holds_a_chat(path: Path) -> bool:
    """Whether the file exists and is a saved chat.

    Raises:
        UsageError: It is another file.
    """
    if not path.exists():
        return False
    try:
        load(path)
    except UsageError as exc:
        name = sanitize_line(str(path))
        raise UsageError(
            f"{name} exists and is not a saved chat", hint="save under another name"
        ) from exc
    return True


def load(path: Path) -> SavedChat:
    """Read a chat that `save` wrote.

    Raises:
        UsageError: The file is missing, or not a saved chat.
    """
    name = sanitize_line(str(path))
    try:
        # outside: a file that a person names
        with path.open("rb") as stream:
            raw = stream.read(_LIMIT + 1)
    except OSError as exc:
        raise UsageError(f"cannot read {name}: {os_reason(exc)}", hint=os_hint(exc)) from exc
    if len(raw) > _LIMIT:
        raise UsageError(f"{name} is not a saved chat: too large", hint=_HINT)
    try:
        document = parse_json(raw)
        if not isinstance(document, dict) or document.get("modelrunner_chat") != _VERSION:
            raise UsageError(f"{name} is not a saved chat", hint=_HINT)
        return SavedChat(str(document.get("model")), Conversation.from_dict(document))
    except RecursionError as exc:
        raise UsageError(f"{name} is not a saved chat", hint=_HINT) from exc
    except (json.JSONDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{name} is not a saved chat: {json_fault(exc)}", hint=_HINT) from exc
    except ValueError as exc:
        raise UsageError(
            f"{name} is not a saved chat: {sanitize_line(str(exc))}", hint=_HINT
        ) from exc
