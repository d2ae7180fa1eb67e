"""A function that a model may ask for, and the box of those that are offered to it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelrunner.frozen import frozen
from modelrunner.text import suggest

_REFUSED = "The user denied this call."


@frozen
class Tool:
    """A function: its description for the model, and how it is run.

    Attributes:
        name: What the model calls it.
        description: What it is for.
        parameters: JSON Schema of its arguments, an object.
        command: The program that gets the arguments as JSON on stdin and prints the result; empty
            if somebody else has to answer.
        run: What is called with the arguments instead of a program.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    command: tuple[str, ...] = ()
    run: "Callable[[str], Result] | None" = None

    @property
    def runs(self) -> bool:
        """Whether it does something by itself."""
        return bool(self.command) or self.run is not None

    def to_dict(self) -> dict[str, object]:
        """The function as OpenAI's API takes it."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {"type": "function", "function": function}


@frozen
class Result:
    """What the model gets for its call, and whether the tool did its work."""

    text: str
    succeeded: bool = True

    @classmethod
    def failed(cls, reason: str) -> "Result":
        """The result of a call that came to nothing."""
        return cls(json.dumps({"error": reason}, ensure_ascii=False), succeeded=False)

    @classmethod
    def refused(cls) -> "Result":
        """The result of a call that the person does not want."""
        return cls.failed(_REFUSED)


@frozen
class Toolbox:
    """The functions that are offered to a model."""

    tools: Sequence[Tool] = ()

    @property
    def names(self) -> list[str]:
        """What there is."""
        return [tool.name for tool in self.tools]

    @property
    def runs_something(self) -> bool:
        """Whether there is a tool that starts a program."""
        return any(tool.runs for tool in self.tools)

    def find(self, name: str) -> Tool | None:
        """The tool of that name."""
        return next((tool for tool in self.tools if tool.name == name), None)

    def missing(self, name: str) -> Result:
        """Return what a model gets that calls an unknown function."""
        guess = suggest(name, self.names, 1)
        return Result.failed(f"unknown function {name[:100]}" + (f"; {guess}" if guess else ""))

    def fields(self) -> dict[str, object]:
        """The fields of a request that describe the tools; none where there are none."""
        return {"tools": [tool.to_dict() for tool in self.tools]} if self.tools else {}
