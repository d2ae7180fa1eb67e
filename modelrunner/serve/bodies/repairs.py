"""What OpenAI's servers accept in a chat and llama.cpp refuses.

Clients send every field of their objects, with null for what is not set, and functions without
parameters called with no text at all. A module of the standard library's, as `fields` is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_UNSET = {"message": ("name", "reasoning_content"), "function": ("description",)}
"""Fields that may be null there, and are then as if they were missing."""


def repaired(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return those of `messages` and `tools` that have to be replaced, as they should be."""
    found = {"messages": _each(value.get("messages"), _message)}
    found["tools"] = _each(value.get("tools"), _tool)
    return {name: each for name, each in found.items() if each is not None}


def _each(entries: object, repair: Callable[[Mapping[str, Any]], object]) -> Sequence[Any] | None:
    """The entries with repairs; None where no entry needs one."""
    if not isinstance(entries, list):
        return None
    better = [repair(entry) if isinstance(entry, dict) else None for entry in entries]
    if all(entry is None for entry in better):
        return None
    return [entry if new is None else new for entry, new in zip(entries, better, strict=True)]


def _message(message: Mapping[str, Any]) -> object:
    found = _without_unset(message, "message")
    calls = _each(message.get("tool_calls"), _call)
    return found if calls is None else {**(found or message), "tool_calls": calls}


def _call(call: Mapping[str, Any]) -> object:
    function = call.get("function")
    if not isinstance(function, dict) or function.get("arguments") != "":
        return None
    return {**call, "function": {**function, "arguments": "{}"}}


def _tool(tool: Mapping[str, Any]) -> object:
    function = tool.get("function")
    found = _without_unset(function, "function") if isinstance(function, dict) else None
    return None if found is None else {**tool, "function": found}


def _without_unset(entry: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """An object without its fields that are null; None where it has none of these."""
    unset = [name for name in _UNSET[kind] if name in entry and entry[name] is None]
    return {name: entry[name] for name in entry if name not in unset} if unset else None
