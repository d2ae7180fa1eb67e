"""The promise of the documentation: every error says what to do next.

An error has the hint of the place that raises it, or that of its class. So every place that makes
an error of a class without one has to give one, and not perhaps.
"""

import ast
from collections.abc import Iterator
from importlib import import_module

import pytest

from modelrunner import errors
from modelrunner.errors import ModelRunnerError
from tests.support.sources import Source, sources

# one worker parses everything
pytestmark = pytest.mark.xdist_group("sources")


def test_every_error_has_a_hint() -> None:
    classes = error_classes()
    assert len(classes) > 35
    missing = [
        f"{module.name}:{call.lineno}: {ast.unparse(call)[:100]}"
        for module, call in calls(set(classes))
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
    for module in sources():
        classes = (node for node in module.nodes if isinstance(node, ast.ClassDef))
        if any(each.name.endswith("Error") for each in classes):
            import_module("modelrunner." + module.name.removesuffix(".py").replace("/", "."))
    found: dict[str, type[ModelRunnerError]] = {}
    waiting: list[type[ModelRunnerError]] = [ModelRunnerError]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found


def calls(names: set[str]) -> Iterator[tuple[Source, ast.Call]]:
    """Every call in the package that makes an error."""
    for module in sources():
        for call in module.calls():
            if called(call) in names:
                yield module, call


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
