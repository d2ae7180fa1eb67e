r"""What a model wants called: put together from the pieces of a stream.

```
{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "now", "arguments": ""}}]}}
{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{\"zone\": \"UTC\"}"}}]}}
```
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MOST_CALLS = 64
_LONGEST = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called; the arguments are JSON as the model wrote it."""

    id: str
    name: str
    arguments: str

    def to_dict(self) -> dict[str, object]:
        """The call as OpenAI's API writes it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}

    @classmethod
    def from_dict(cls, document: object) -> "ToolCall":
        """The call that `to_dict` made this of.

        Raises:
            ValueError: The document is something else.
        """
        match document:
            case {"id": str(name_of_call), "function": {"name": str(name), "arguments": str(text)}}:
                return cls(name_of_call, name, text)
            case _:
                raise ValueError("that is no call of a tool")


class ToolCalls:
    """Calls that come in pieces, of several calls at once perhaps."""

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}

    def feed(self, chunk: Mapping[str, Any]) -> None:
        """Takes what a chunk of the stream adds; too many or too long ones are left out."""
        match chunk:
            case {"choices": [{"delta": {"tool_calls": list(pieces)}}, *_]}:
                for position, piece in enumerate(pieces):
                    self._add(piece, position)
            case _:
                pass

    def _add(self, piece: object, position: int) -> None:
        if not isinstance(piece, dict):
            return
        index = piece.get("index")
        key = index if isinstance(index, int) else position
        if key not in self._parts and len(self._parts) >= _MOST_CALLS:
            return
        parts = self._parts.setdefault(key, ["", "", ""])
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        parts[0] = parts[0] or str(piece.get("id") or "")
        parts[1] = parts[1] or str(function.get("name") or "")
        if len(parts[2]) < _LONGEST:
            parts[2] += str(function.get("arguments") or "")

    @property
    def whole(self) -> tuple[ToolCall, ...]:
        """The calls that name a function, in the model's order."""
        return tuple(
            ToolCall(name_of_call or f"call_{index}", name, arguments or "{}")
            for index, (name_of_call, name, arguments) in sorted(self._parts.items())
            if name
        )
