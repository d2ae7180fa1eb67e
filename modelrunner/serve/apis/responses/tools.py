"""The tools of a response, as the functions of a chat.

A custom tool takes a text instead of JSON; to a runtime it is a function with one argument.
Functions of a namespace have its name before theirs. What OpenAI's servers would run themselves
(searches, containers, …) cannot be run here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelrunner.serve.apis.content import unknown_choice
from modelrunner.serve.apis.responses.items import function_name
from modelrunner.serve.bodies.fields import InvalidBodyError
from modelrunner.text import listed, sanitize_line

Tool = Mapping[str, Any]

_INPUT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}


@dataclass(slots=True)
class Tools:
    """What a model may call.

    Attributes:
        functions: As a chat has them.
        shown: As the response has them: those that the model can call.
        custom: Names of functions that are custom tools.
        namespaces: Of functions in a namespace, by their name in the chat: namespace and name.
        choice: `tool_choice` of the chat; None where nothing is said.
    """

    functions: list[dict[str, Any]] = field(default_factory=list)
    shown: list[Tool] = field(default_factory=list)
    custom: list[str] = field(default_factory=list)
    namespaces: dict[str, tuple[str, str]] = field(default_factory=dict)
    choice: object = None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> "Tools":
        """Return the tools of a request.

        A tool that cannot be run is left out where there are others, for a model may do without
        any of them; the response shows which are left.

        Raises:
            InvalidBodyError: There are no others, it is the one to be called, or a tool is invalid.
        """
        found = cls()
        hosted = []
        given = value.get("tools") or []
        if not isinstance(given, list):
            raise InvalidBodyError("`tools` is not a list", "invalid_value")
        for number, tool in enumerate(given):
            kind = tool.get("type") if isinstance(tool, dict) else None
            if not isinstance(kind, str):
                raise InvalidBodyError(f"`tools[{number}]` has no `type`", "invalid_value")
            if kind in {"function", "custom", "namespace"}:
                found._add(tool, f"tools[{number}]")
            else:
                hosted.append(sanitize_line(kind, 80))
        choice = value.get("tool_choice")
        if hosted and not found.functions and choice != "none":
            raise _cannot_run(hosted)
        found._choose(choice)
        return found

    def _add(self, tool: Tool, where: str) -> None:
        self.shown.append(tool)
        if tool["type"] == "namespace":
            inner = tool.get("tools")
            for number, each in enumerate(inner if isinstance(inner, list) else ()):
                if not isinstance(each, dict):
                    raise InvalidBodyError(f"`{where}` has an invalid tool", "invalid_value")
                self._function({**each, "namespace": tool.get("name")}, f"{where}.tools[{number}]")
        else:
            self._function(tool, where)

    def _function(self, tool: Tool, where: str) -> None:
        name = tool.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidBodyError(f"`{where}.name` is missing", "invalid_value")
        chat_name = function_name(tool)
        function: dict[str, Any] = {"name": chat_name}
        if isinstance(tool.get("description"), str):
            function["description"] = tool["description"]
        if tool.get("type") == "custom":
            self.custom.append(chat_name)
            function["parameters"] = _INPUT
            form = tool.get("format")
            if isinstance(form, dict) and form.get("type") == "grammar":
                # shown, not enforced: the grammars of OpenAI's are not those of llama.cpp
                rule = f"The input follows this grammar:\n{form.get('definition', '')}"
                function["description"] = f"{function.get('description', '')}\n{rule}".strip()
        else:
            function["parameters"] = tool.get("parameters") or {"type": "object", "properties": {}}
        if isinstance(tool.get("strict"), bool):
            function["strict"] = tool["strict"]
        if "namespace" in tool:
            self.namespaces[chat_name] = (str(tool["namespace"]), name)
        self.functions.append({"type": "function", "function": function})

    def _choose(self, choice: object) -> None:
        if choice is None or isinstance(choice, str):
            if choice not in {None, "auto", "none", "required"}:
                raise InvalidBodyError(
                    f"`tool_choice` is {sanitize_line(str(choice), 80)}: expected auto, none or"
                    " required",
                    "invalid_tool_choice",
                )
            self.choice = choice
            return
        kind = choice.get("type") if isinstance(choice, dict) else None
        if isinstance(choice, dict) and kind in {"function", "custom"}:
            self._only("required", [choice])
        elif isinstance(choice, dict) and kind == "allowed_tools":
            entries = choice.get("tools")
            if not isinstance(entries, list):
                raise InvalidBodyError("`tool_choice.tools` is not a list", "invalid_tool_choice")
            mode = "required" if choice.get("mode") == "required" else "auto"
            self._only(mode, [each for each in entries if isinstance(each, dict)])
        elif isinstance(kind, str):
            raise _cannot_run([sanitize_line(kind, 80)])
        else:
            raise InvalidBodyError("`tool_choice` has no `type`", "invalid_tool_choice")

    def _only(self, mode: str, entries: Sequence[Tool]) -> None:
        """Leave only the functions that are named: runtimes know no other choice."""
        known = {each["function"]["name"] for each in self.functions}
        names = [function_name(each) for each in entries]
        for name in names:
            if name not in known:
                raise unknown_choice(name)
        self.functions = [each for each in self.functions if each["function"]["name"] in names]
        self.choice = mode


def _cannot_run(kinds: Sequence[str]) -> InvalidBodyError:
    what = listed(sorted(set(kinds)))
    return InvalidBodyError(
        f"tools of the type {what} are not supported: use functions, which your program calls",
        "unsupported_tool",
    )
