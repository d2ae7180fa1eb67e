r"""What a model wants called: put together from the pieces of a stream.

```
{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "now", "arguments": ""}}]}}
{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{\"zone\": \"UTC\"}"}}]}}
```

Servers refuse, or fail at, a conversation with a call that lacks something. So each call gets an id
of its own, a name that a function can have and an object of arguments, whatever the model wrote.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from modelrunner.frozen import field, frozen, record, replace
from modelrunner.text import encodable
from modelrunner.wire import parse_json

_MOST_CALLS = 64
_LONGEST = 1024 * 1024
_LONGEST_ID = 128
_SHOWN = 1000
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_NAME = 64
_UNNAMED = "unnamed"
_SURROGATE = re.compile("[\ud800-\udfff]")


@frozen
class ToolCall:
    """A function that the model wants called; it can be sent back as it is.

    Attributes:
        id: Which call it is; no other call of the answer has it.
        name: The function, as a name that functions can have.
        arguments: A JSON object.
        problem: Why it cannot be called; None if it can.
    """

    id: str
    name: str
    arguments: str
    problem: str | None = field(default=None, compare=False)

    @classmethod
    def of(cls, id_: str, name: str, arguments: str) -> "ToolCall":
        """A call of what a model wrote."""
        problem = None
        given, reason = _object(arguments)
        if reason is not None:
            problem = f"the arguments are not a JSON object: {reason}"
            given = json.dumps({"invalid_arguments": encodable(arguments[:_SHOWN])})
        usable = _NAME.sub("_", name.strip())[:_LONGEST_NAME]
        if not usable.strip("_"):
            problem = "the call does not name a function"
            usable = _UNNAMED
        return cls(encodable(id_)[:_LONGEST_ID], usable, given, problem)

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
                return cls.of(name_of_call, name, text)
            case _:
                raise ValueError("not a tool call")


def with_own_ids(calls: Sequence[ToolCall], taken: Collection[str]) -> tuple[ToolCall, ...]:
    """The calls, each with an id that neither another of them nor an earlier call has."""
    seen = set(taken)
    fresh = []
    for call in calls:
        own, number = call.id, 0
        while not own or own in seen:
            own, number = f"call_{len(seen) + number}", number + 1
        seen.add(own)
        fresh.append(replace(call, id=own))
    return tuple(fresh)


def _object(arguments: str) -> tuple[str, str | None]:
    """Arguments as the JSON text of an object, and what is wrong with them."""
    if len(arguments) > _LONGEST:
        return "{}", f"longer than {_LONGEST} characters"
    try:
        return _object_in(arguments.strip() or "{}"), None
    except json.JSONDecodeError as exc:
        return "{}", f"invalid JSON at character {exc.pos + 1}"
    except ValueError as exc:
        return "{}", str(exc)


def _object_in(text: str) -> str:
    value = parse_json(text)
    if isinstance(value, str):
        # some models quote the object once more
        text, value = value, parse_json(value)
    if value is None:
        return "{}"
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value), "a number")
        raise ValueError(f"expected an object, got {kind}")  # noqa: TRY004 - of a text's value
    if "\\u" in text or _SURROGATE.search(text):
        return encodable(json.dumps(value, ensure_ascii=False))
    return text


_KINDS: Mapping[type, str] = {list: "an array", str: "a string", bool: "a boolean"}


@record
class _Pieces:
    """A call as far as it is there."""

    index: int
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    length: int = 0

    def add(self, id_: str, name: str, arguments: object) -> None:
        self.id = self.id or id_
        self.name = self.name or name
        text = arguments if isinstance(arguments, str) else _as_json(arguments)
        # one character beyond the limit tells that there was more
        kept = text[: max(0, _LONGEST + 1 - self.length)]
        self.length += len(kept)
        self.arguments.append(kept)


def _as_json(value: object) -> str:
    """Arguments that are sent as a value instead of its JSON."""
    try:
        return "" if value is None else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "[" * _SHOWN


class ToolCalls:
    """Calls that come in pieces, of several calls at once perhaps."""

    def __init__(self) -> None:
        self._calls: list[_Pieces] = []
        self._by_index: dict[int, _Pieces] = {}

    def feed(self, chunk: Mapping[str, Any]) -> None:
        """Takes what a chunk of the stream adds; too many calls are left out."""
        match chunk:
            case {"choices": [{"delta": {} as message}, *_]} | {
                "choices": [{"message": {} as message}, *_]
            }:
                pieces = message.get("tool_calls")
                for piece in pieces if isinstance(pieces, list) else [pieces]:
                    self._add(piece)
                if isinstance(message.get("function_call"), dict):
                    # as calls were written before there could be several
                    self._add({"index": 0, "function": message["function_call"]})
            case _:
                pass

    def _add(self, piece: object) -> None:
        if not isinstance(piece, dict):
            return
        function = piece.get("function")
        function = function if isinstance(function, dict) else piece
        id_, name = _word(piece.get("id")), _word(function.get("name"))
        call = self._call_of(piece.get("index"), id_, name)
        if call is not None:
            call.add(id_, name, function.get("arguments"))

    def _call_of(self, index: object, id_: str, name: str) -> _Pieces | None:
        """The call that a piece belongs to; None if there are too many.

        A piece that names a function and has another id begins another call, even where a server
        numbers all of them 0, or none.
        """
        if isinstance(index, int) and not isinstance(index, bool):
            current = self._by_index.get(index)
        else:
            current = next((each for each in self._calls if id_ and each.id == id_), None)
            current = current or (self._calls[-1] if self._calls else None)
            index = None
        if current is not None and name and current.name:
            other = id_ != current.id if id_ and current.id else index is None
            current = None if other else current
        if current is None:
            if len(self._calls) >= _MOST_CALLS:
                return None
            current = _Pieces(len(self._calls) if index is None else index)
            self._calls.append(current)
        if index is not None:
            self._by_index[index] = current
        return current

    @property
    def whole(self) -> tuple[ToolCall, ...]:
        """The calls, in the model's order."""
        ordered = sorted(self._calls, key=lambda call: call.index)
        made = [
            ToolCall.of(call.id, call.name, "".join(call.arguments))
            for call in ordered
            if call.id or call.name or call.length
        ]
        return with_own_ids(made, ())


def _word(value: object) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""
