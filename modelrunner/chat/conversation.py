"""What was said so far: the messages that a model sees with the next one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """Something that somebody said; `stopped` marks an answer that was broken off."""

    role: Role
    content: str
    stopped: bool = False


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
        """Everything that the model shall see: the system prompt first, if there is one."""
        return (*([Message("system", self.system)] if self.system else []), *self._turns)

    def add_user(self, content: str) -> None:
        """The user says something."""
        self._turns.append(Message("user", content))

    def add_assistant(self, content: str, *, stopped: bool = False) -> None:
        """The model answers; `stopped` if it did not come to an end."""
        self._turns.append(Message("assistant", content, stopped))

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
                raise ValueError("there are no `system` and `messages`")


def _turn(document: object, index: int) -> Message:
    match document:
        case {"role": "user" | "assistant" as role, "content": str(content), **rest}:
            return Message(role, content, stopped=rest.get("stopped") is True)
        case _:
            raise ValueError(f"`messages[{index}]` is no turn of user or assistant")
