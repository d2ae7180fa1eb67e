"""Rounds of tool calls: the model calls functions, and continues with their results."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TextIO

from modelrunner.chat.answer import Done
from modelrunner.chat.conversation import Conversation
from modelrunner.chat.tool_call import ToolCall, with_own_ids
from modelrunner.cli.rendering.writer import await_line
from modelrunner.errors import RuntimeFailedError
from modelrunner.frozen import field, frozen, record
from modelrunner.text import sanitize, sanitize_line
from modelrunner.tools.call import call
from modelrunner.tools.tool import Result, Toolbox
from modelrunner.wire import parse_json

# late imports: most chats have no MCP servers
if TYPE_CHECKING:
    from modelrunner.tools.mcp_file import McpServer

MOST_ROUNDS = 16
_SHOWN = 400
_ASKED = 20_000


@frozen
class Called:
    """A call with its result, or refused."""

    call: ToolCall
    result: Result


@record
class Caller:
    """Runs the tools that a model calls.

    Attributes:
        box: The tools.
        say: Prints what happens.
        ask: Asks the user, and returns the answer; None without a terminal.
        allowed: Whether every call is allowed without confirmation.
        by_hand: Whether the user types the results of functions without a program.
        called: The calls of the last answer.
        servers: MCP servers whose tools are to be added to the box.
    """

    box: Toolbox = field(default_factory=Toolbox)
    say: Callable[[str], None] = lambda _text: None
    ask: Callable[[str], str] | None = None
    allowed: bool = False
    by_hand: bool = False
    called: list[Called] = field(default_factory=list)
    servers: "Sequence[McpServer]" = ()

    def converse(self, ask: Callable[[], tuple[Done, str]], conversation: Conversation) -> Done:
        """Request an answer, run the tools that it calls, and repeat until there are no calls.

        Args:
            ask: Requests an answer to the conversation; returns its end and its text.
            conversation: Calls and their results are added; the answer after them is not.

        Returns:
            The end of the last answer, with the calls that cannot be answered.

        Raises:
            RuntimeFailedError: The model does not stop calling functions.
        """
        self.called.clear()
        for _ in range(MOST_ROUNDS):
            done, text = ask()
            if not done.calls or not self._can_answer(done.calls):
                return done
            calls = with_own_ids(done.calls, conversation.call_ids)
            conversation.add_assistant(text, calls=calls)
            results = [Result.refused()] * len(calls)
            try:
                for index, wanted in enumerate(calls):
                    results[index] = self._answer(wanted)
                    self.called.append(Called(wanted, results[index]))
            finally:
                # most templates want a result of each call, whatever came between
                for wanted, result in zip(calls, results, strict=True):
                    conversation.add_result(wanted, result.text)
        raise RuntimeFailedError(
            f"the model called functions {MOST_ROUNDS} times without an answer",
            hint="try a larger model",
        )

    def _can_answer(self, calls: tuple[ToolCall, ...]) -> bool:
        if self.by_hand:
            return True
        found = [self.box.find(wanted.name) for wanted in calls]
        return all(tool is None or tool.runs for tool in found)

    def _answer(self, wanted: ToolCall) -> Result:
        # whoever allows a call has to see all of it
        shown = describe_call(wanted, _SHOWN if self.allowed else _ASKED)
        tool = self.box.find(wanted.name)
        if wanted.problem is not None:
            self.say(f"the model calls {shown}: {wanted.problem}")
            return Result.failed(wanted.problem)
        if tool is None:
            self.say(f"the model calls {shown}, which does not exist")
            return self.box.missing(wanted.name)
        if not tool.runs:
            answer = self.ask(f"the model calls {shown}; its result: ") if self.ask else ""
            return Result(answer.strip())
        if len(shown) >= _ASKED:
            return Result.failed("the arguments are too long to be shown to the user")
        if not self._is_allowed(shown):
            self.say("not called")
            return Result.refused()
        run = tool.run or partial(call, tool)
        result = run(wanted.arguments)
        self.say(f"{wanted.name} {_outcome(result)}")
        return result

    def _is_allowed(self, shown: str) -> bool:
        if self.allowed:
            self.say(f"calling {shown}")
            return True
        if self.ask is None:
            return False
        answer = self.ask(f"call {shown}? [y]es, [n]o, [a]lways: ").strip().lower()
        self.allowed = answer in {"a", "always"}
        return self.allowed or answer in {"y", "yes"}


def ask_person(question: str, err: TextIO) -> str:
    """Return the line that the user types; empty at the end of input."""
    # own text: made safe here
    err.write(sanitize(question))
    err.flush()
    await_line(sys.stdin)
    return sys.stdin.readline()


def describe_call(wanted: ToolCall, limit: int = _SHOWN) -> str:
    """Return a call as code, sanitized: `get_weather(city="Paris")`."""
    try:
        given = parse_json(wanted.arguments)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        return sanitize_line(f"{wanted.name}({wanted.arguments})", limit)
    said = ", ".join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()
    )
    return sanitize_line(f"{wanted.name}({said})", limit)


def describe_tools(box: Toolbox) -> Iterator[str]:
    """Yield each tool in one line, sanitized."""
    for tool in box.tools:
        names = ", ".join(map(str, tool.parameters.get("properties") or {}))
        about = tool.description.partition(". ")[0]
        yield sanitize_line(f"{tool.name}({names}): {about}".removesuffix(": "), 120)


def _outcome(result: Result) -> str:
    return f"{'answers' if result.succeeded else 'fails'}: {sanitize_line(result.text, _SHOWN)}"
