"""Tools from a file: functions of a Python file, or a JSON list as OpenAI's API takes it.

```json
[{"type": "function",
  "function": {"name": "get_weather", "description": "...", "parameters": {"type": "object"}},
  "command": ["./weather.sh"]}]
```

`command` is ours: the program that answers, looked up beside the file where it has a slash. Only
the person at the keyboard names such a file; no artifact and no card does.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelrunner.errors import UsageError
from modelrunner.text import json_fault, os_hint, os_reason, sanitize_line
from modelrunner.tools.call import run_bounded
from modelrunner.tools.tool import Tool, Toolbox
from modelrunner.wire import parse_json

_LIMIT = 1024 * 1024
_LOADS_WITHIN_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FEWER = "remove functions, or shorten their descriptions"
_LIKE = (
    'write a list of {"name": "...", "description": "...", "parameters": '
    '{"type": "object"}}, as in OpenAI\'s API'
)


def load_tools(file: Path) -> Toolbox:
    """The tools that a file describes.

    Raises:
        UsageError: It is not there, or describes none.
    """
    shown = sanitize_line(str(file))
    if not file.is_file():
        raise UsageError(
            f"{shown} is not a file" if file.exists() else f"{shown}: file not found",
            hint="name a .py file with functions, or a .json file with their descriptions",
        )
    if file.suffix == ".py":
        tools = _from_python(file, shown)
    elif file.suffix == ".json":
        tools = _from_json(file, shown)
    else:
        raise UsageError(
            f"{shown}: expected a .py or .json file",
            hint="use a Python file with functions, or a JSON list as in OpenAI's API",
        )
    if not tools:
        raise UsageError(
            f"{shown}: no functions found",
            hint="define functions with a docstring and annotated parameters; names that begin "
            "with _ are ignored",
        )
    names = [tool.name for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"{shown}: duplicate function {twice}", hint="give each function a different name"
        )
    return Toolbox(tuple(tools))


def _from_python(file: Path, shown: str) -> list[Tool]:
    command = (sys.executable, "-B", "-m", "modelrunner.tools.python_tools", str(file.absolute()))
    ended = run_bounded(command, b"", _LOADS_WITHIN_S, _LIMIT)
    if ended.cut:
        raise UsageError(f"{shown}: the tools exceed {_LIMIT} bytes", hint=_FEWER)
    if ended.status is None:
        raise UsageError(
            f"{shown}: loading timed out after {_LOADS_WITHIN_S:g} s",
            hint="move slow work from the module into its functions",
        )
    if ended.status:
        said = ended.said.strip().splitlines()
        raise UsageError(
            f"cannot load {shown}: {sanitize_line(said[-1] if said else '?')}",
            hint=f"correct the file: `python {shown}` shows where it fails",
        )
    return [
        Tool(found["name"], found["description"], found["parameters"], (*command, found["name"]))
        for found in parse_json(ended.text)
    ]


def _from_json(file: Path, shown: str) -> list[Tool]:
    try:
        # outside: a file that a person names
        raw = file.read_bytes()[: _LIMIT + 1]
    except OSError as exc:
        raise UsageError(f"cannot read {shown}: {os_reason(exc)}", hint=os_hint(exc)) from exc
    if len(raw) > _LIMIT:
        raise UsageError(f"{shown} exceeds {_LIMIT} bytes", hint=_FEWER)
    try:
        document = parse_json(raw)
    except ValueError as exc:
        raise UsageError(f"{shown}: {json_fault(exc)}", hint=_LIKE) from exc
    entries = document if isinstance(document, list) else [document]
    return [_tool(entry, f"{shown}[{at}]", file.parent) for at, entry in enumerate(entries)]


def _tool(entry: object, where: str, folder: Path) -> Tool:
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is not the description of a function", hint=_LIKE)
    function = entry.get("function", entry)
    match function:
        case {"name": str(name)} if _NAME.fullmatch(name):
            parameters = function.get("parameters") or {"type": "object", "properties": {}}
            if not isinstance(parameters, dict):
                raise UsageError(
                    f"{where}: `parameters` must be a JSON Schema of an object", hint=_LIKE
                )
            about = str(function.get("description") or "")
            return Tool(name, about, parameters, _command(entry, where, folder))
        case _:
            raise UsageError(
                f"{where}: invalid function name",
                hint="use up to 64 letters, digits, _ and -",
            )


def _command(entry: Mapping[str, Any], where: str, folder: Path) -> tuple[str, ...]:
    command = entry.get("command", [])
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise UsageError(
            f"{where}: `command` must be a list of strings",
            hint='write it like "command": ["./weather.sh", "--json"]',
        )
    if command and "/" in command[0]:
        return (str((folder / command[0]).absolute()), *command[1:])
    return tuple(command)
