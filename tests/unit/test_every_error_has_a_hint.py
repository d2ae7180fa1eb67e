"""The promise of the documentation: every error says what to do next.

An error has the hint of the place that raises it, or that of its class. So every place that makes
an error of a class without one has to give one, and not perhaps.
"""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import modelrunner
from modelrunner import errors
from modelrunner.errors import ModelRunnerError

PACKAGE = Path(modelrunner.__file__).parent


def test_every_error_has_a_hint() -> None:
    classes = error_classes()
    assert len(classes) > 35
    missing = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}: {ast.unparse(call)[:100]}"
        for path, call in calls(set(classes))
        if not classes[called(call)].default_hint and not gives_a_hint(call)
    ]
    assert missing == []


def test_the_hints_of_classes_are_for_their_errors() -> None:
    assert errors.InterruptedTransferError("x").hint == (
        "run the same command again to resume: the partial download is kept"
    )
    assert errors.IntegrityError("x", hint="mine").hint == "mine"
    assert errors.UsageError("x").hint is None


def error_classes() -> dict[str, type[ModelRunnerError]]:
    """Every class of errors, wherever it is, by its name."""
    for path in PACKAGE.rglob("*.py"):
        if "(ModelRunnerError" in (text := path.read_text()) or "Error(" in text:
            defines = any(
                isinstance(node, ast.ClassDef) and node.name.endswith("Error")
                for node in ast.walk(ast.parse(text))
            )
            if defines:
                import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    found: dict[str, type[ModelRunnerError]] = {}
    waiting: list[type[ModelRunnerError]] = [ModelRunnerError]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found


def calls(names: set[str]) -> Iterator[tuple[Path, ast.Call]]:
    """Every call in the package that makes an error."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and called(node) in names:
                yield path, node


def called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def gives_a_hint(call: ast.Call) -> bool:
    given = next((entry for entry in call.keywords if entry.arg == "hint"), None)
    if given is None:
        # `**facts` may hold one
        return any(entry.arg is None for entry in call.keywords)
    return not any(
        isinstance(node, ast.Constant) and node.value is None for node in ast.walk(given.value)
    )
