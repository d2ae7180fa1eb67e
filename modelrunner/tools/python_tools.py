"""The functions of a Python file as tools: `python -m modelrunner.tools.python_tools FILE [NAME]`.

Run as a child, for the file is somebody's program: without NAME it prints what there is, with NAME
it reads arguments from stdin, calls the function, and prints what it returns. What the function
itself prints is the result where it returns nothing.
"""

import inspect
import json
import os
import re
import sys
import types
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_PLAIN: dict[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_PRINTED = 256 * 1024
_ARGUMENT = re.compile(r"\s+(\w+)(?:\s*\([^)]*\))?:\s*(.+)")


def describe(function: Callable[..., object]) -> dict[str, object]:
    """A function as OpenAI's API describes one: by its signature, hints and docstring."""
    text = inspect.getdoc(function) or ""
    about, _, arguments = text.partition("\nArgs:\n")
    descriptions = _arguments(arguments)
    hints = get_type_hints(function)
    properties, required = dict[str, object](), []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        schema = schema_of(hints.get(name, str))
        properties[name] = schema | (
            {"description": descriptions[name]} if name in descriptions else {}
        )
        if parameter.default is parameter.empty:
            required.append(name)
    return {
        "name": function.__name__,
        "description": " ".join(re.split(r"\n(?:Returns|Raises):\n", about)[0].split()),
        "parameters": {"type": "object", "properties": properties, "required": required},
    }


def schema_of(hint: object) -> dict[str, object]:
    """JSON Schema for a type hint; a hint that says nothing to JSON allows anything."""
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in {Union, types.UnionType}:
        several = [schema_of(each) for each in arguments if each is not type(None)]
        return several[0] if len(several) == 1 else {"anyOf": several}
    if hint in {list, tuple, set} or origin in {list, tuple, set}:
        return {"type": "array", "items": schema_of(arguments[0]) if arguments else {}}
    return {"type": "object"} if hint is dict or origin is dict else {}


def _arguments(text: str) -> dict[str, str]:
    """What the `Args:` of a docstring say of each."""
    descriptions = dict[str, str]()
    name, margin = "", None
    for line in text.splitlines():
        if line and not line[0].isspace():
            break
        indent = len(line) - len(line.lstrip())
        margin = indent if margin is None else margin
        match = _ARGUMENT.fullmatch(line) if indent == margin else None
        if match:
            name = match[1]
            descriptions[name] = match[2].strip()
        elif name and line.strip():
            descriptions[name] += f" {line.strip()}"
    return descriptions


def functions(file: Path) -> dict[str, Callable[..., object]]:
    """The public functions that the file itself defines, in its order."""
    sys.path.insert(0, str(file.parent))
    spec = spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


class _Beginning(StringIO):
    """The beginning of what is printed: a function may print without an end."""

    def write(self, text: str) -> int:
        """Keeps what there is room for."""
        room = max(0, _PRINTED - self.tell())
        super().write(text[:room])
        return len(text)


def _call(function: Callable[..., object], given: dict[str, Any]) -> str:
    printed = _Beginning()
    with redirect_stdout(printed):
        result = function(**given)
    if result is None:
        return printed.getvalue()
    return (
        result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
    )


def main(file: str, name: str | None = None) -> None:
    """Prints what the file offers, or what one of its functions answers."""
    # the real stdout is for the result alone
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        # what it prints stands before the error that ends it
        # outside: what stdout is
        sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        found = functions(Path(file).absolute())
        if name is None:
            json.dump([describe(function) for function in found.values()], out)
        else:
            # trusted: parsed once by our own parent
            out.write(_call(found[name], json.load(sys.stdin)))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as exc:  # noqa: BLE001 - anything may go wrong in somebody's file
        sys.exit(f"{type(exc).__name__}: {exc}")
