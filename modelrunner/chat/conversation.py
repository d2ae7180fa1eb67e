"""What was said so far: the messages that a model sees with the next one."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from modelrunner.chat.tool_call import ToolCall
from modelrunner.frozen import frozen
from modelrunner.text import encodable

Role = Literal["system", "user", "assistant", "tool"]


@frozen
class Message:
    """Something that somebody said.

    Attributes:
        role: Who.
        content: What.
        stopped: Whether it is an answer that was broken off.
        images: Pictures that go with it, as data URIs.
        calls: The functions that an answer wants called.
        call_id: The call that this is the result of, if it comes from a tool.
    """

    role: Role
    content: str
    stopped: bool = False
    images: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The message as OpenAI's API takes it."""
        message: dict[str, object] = {"role": self.role, "content": self.parts}
        if self.calls:
            message["tool_calls"] = [call.to_dict() for call in self.calls]
        if self.call_id is not None:
            message["tool_call_id"] = self.call_id
        return message

    @property
    def parts(self) -> str | list[dict[str, object]]:
        """The content as OpenAI's API takes it: a list of parts where there are pictures."""
        if not self.images:
            return encodable(self.content)
        pictures: list[dict[str, object]] = [
            {"type": "image_url", "image_url": {"url": image}} for image in self.images
        ]
        return [*pictures, {"type": "text", "text": encodable(self.content)}]


class Conversation:
    """The system prompt, and turns of user and assistant after each other."""

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self._turns: list[Message] = []

    @property
    def turns(self) -> tuple[Message, ...]:
        """What user and assistant said."""
        return tuple(self._turns)

    @property
    def messages(self) -> tuple[Message, ...]:
        """Everything that is sent to the model: the system prompt first, if there is one.

        A question with an empty answer is left out, with its answer: many chat templates refuse an
        empty turn, and two questions after each other.
        """
        sent: list[Message] = [Message("system", self.system)] if self.system else []
        begun = len(sent)
        for turn in self._turns:
            if turn.role == "user":
                begun = len(sent)
            sent.append(turn)
            if turn.role == "assistant" and not turn.calls and not turn.content.strip():
                del sent[begun:]
        return tuple(sent)

    @property
    def call_ids(self) -> frozenset[str]:
        """The ids of all calls so far."""
        return frozenset(call.id for turn in self._turns for call in turn.calls)

    def add_user(self, content: str, images: Sequence[str] = ()) -> None:
        """The user says something, and shows pictures."""
        self._turns.append(Message("user", content, images=tuple(images)))

    def add_assistant(
        self, content: str, *, stopped: bool = False, calls: Sequence[ToolCall] = ()
    ) -> None:
        """The model answers; `stopped` if it did not come to an end."""
        self._turns.append(Message("assistant", content, stopped, calls=tuple(calls)))

    def add_result(self, call: ToolCall, content: str) -> None:
        """A tool answers a call of the model."""
        self._turns.append(Message("tool", content, call_id=call.id))

    def drop_last(self) -> Message | None:
        """Take back what was said last; None if nothing was."""
        return self._turns.pop() if self._turns else None

    def clear(self) -> None:
        """Forget all turns; the system prompt stays."""
        self._turns.clear()

    def to_dict(self) -> dict[str, object]:
        """The conversation as JSON can hold it."""
        return {
            "system": self.system,
            "messages": [
                {"role": turn.role, "content": turn.content}
                | ({"stopped": True} if turn.stopped else {})
                | ({"images": list(turn.images)} if turn.images else {})
                | ({"tool_calls": [call.to_dict() for call in turn.calls]} if turn.calls else {})
                | ({} if turn.call_id is None else {"tool_call_id": turn.call_id})
                for turn in self._turns
            ],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """The conversation that `to_dict` made this of.

        Raises:
            ValueError: The document is something else; the text says where.
        """
        match document:
            case {"system": str() | None as system, "messages": list(turns)}:
                conversation = cls(system)
                conversation._turns = [_turn(turn, index) for index, turn in enumerate(turns)]
                return conversation
            case _:
                raise ValueError("`system` or `messages` is missing")


def _turn(document: object, index: int) -> Message:
    match document:
        case {"role": "user" | "assistant" as role, "content": str(content), **rest}:
            return Message(
                role,
                content,
                stopped=rest.get("stopped") is True,
                images=_images(rest, index),
                calls=_calls(rest, index),
            )
        case {"role": "tool", "content": str(content), "tool_call_id": str(call)}:
            return Message("tool", content, call_id=call)
        case _:
            raise ValueError(f"`messages[{index}]`: expected a turn of user, assistant or tool")


def _calls(turn: Mapping[Any, object], index: int) -> tuple[ToolCall, ...]:
    calls = turn.get("tool_calls", [])
    try:
        return tuple(map(ToolCall.from_dict, calls if isinstance(calls, list) else [calls]))
    except ValueError as exc:
        raise ValueError(f"`messages[{index}].tool_calls`: expected a list of calls") from exc


def _images(turn: Mapping[Any, object], index: int) -> tuple[str, ...]:
    images = turn.get("images", [])
    if not isinstance(images, list) or not all(_is_picture(image) for image in images):
        raise ValueError(f"`messages[{index}].images`: expected a list of images")
    return tuple(images)


def _is_picture(image: object) -> bool:
    # anything else would make the server fetch what a file names
    return isinstance(image, str) and image.startswith("data:image/")
