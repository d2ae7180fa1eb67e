"""One call to a model that is served: whether it loads, and whether its tool calls are understood.

A model may write calls that the runtime does not recognize: an app then shows them as text, and
nothing happens.
"""

from typing import Any, Literal

from modelrunner.agents.app import Endpoint
from modelrunner.errors import RuntimeFailedError
from modelrunner.runtime.capabilities.facts import Thinking
from modelrunner.runtime.child import probe
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_json

Outcome = Literal["called", "not called", "not understood"]

_TOOL = "save_note"
_QUESTION = f'Call the function {_TOOL} with the text "ready". Do not answer in words.'
_MOST_TOKENS, _MOST_WITH_THOUGHTS = 128, 512
_PATIENCE_S = 900.0
_OK = 200


def warm_up(endpoint: Endpoint) -> None:
    """Load the model.

    Raises:
        RuntimeFailedError: It cannot be loaded.
    """
    _ask(endpoint, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1})


def check_tools(endpoint: Endpoint, thinking: Thinking | None) -> Outcome:
    """Load the model, and have it call a tool.

    Args:
        endpoint: Where it is.
        thinking: How it thinks; where it can do without, it does.

    Raises:
        RuntimeFailedError: It cannot be loaded.
    """
    parameters = {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "The text of the note."}},
        "required": ["text"],
    }
    function = {"name": _TOOL, "description": "Saves a note.", "parameters": parameters}
    asked: dict[str, object] = {
        "messages": [{"role": "user", "content": _QUESTION}],
        "tools": [{"type": "function", "function": function}],
        "max_tokens": _MOST_TOKENS,
        "temperature": 0,
    }
    if thinking is not None and thinking.switch and not thinking.message:
        asked["chat_template_kwargs"] = {thinking.switch: thinking.off}
    elif thinking is not None:
        asked["max_tokens"] = _MOST_WITH_THOUGHTS
    match _ask(endpoint, asked):
        case {"choices": [{"message": {} as message}, *_]}:
            return _outcome(message)
        case _:
            return "not understood"


def _outcome(message: dict[str, Any]) -> Outcome:
    match message.get("tool_calls"):
        case [{"function": {"name": str(name), "arguments": str(arguments)}}, *_]:
            try:
                given = parse_json(arguments)
            except ValueError:
                given = None
            return "called" if name == _TOOL and isinstance(given, dict) else "not understood"
        case _:
            said = str(message.get("content") or "")
            return "not understood" if _TOOL in said else "not called"


def _ask(endpoint: Endpoint, asked: dict[str, object]) -> object:
    answer = probe.post(
        f"{endpoint.openai}/chat/completions",
        {"model": endpoint.model, **asked},
        api_key=endpoint.key,
        timeout_s=_PATIENCE_S,
    )
    if answer is None:
        raise RuntimeFailedError(
            f"{endpoint.model}: no response from the runtime",
            hint="see what it printed: `modelrunner logs`",
        )
    if answer.status != _OK:
        raise _failed(endpoint, answer)
    return answer.body


def _failed(endpoint: Endpoint, answer: probe.Answer) -> RuntimeFailedError:
    match answer.body:
        case {"error": {"message": str(message)}}:
            pass
        case _:
            message = f"unexpected HTTP status {answer.status}"
    return RuntimeFailedError(
        f"{endpoint.model}: {sanitize_line(message, 500)}",
        hint="see what the runtime printed: `modelrunner logs`, or choose another --model",
    )
