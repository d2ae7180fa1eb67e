"""The program's own sources, searched for calls that go around a helper.

A call that may do so says why in a comment beside it or above it: `# trusted: REASON` where what is
parsed is not a stranger's, `# bounded: REASON` where a number cannot be large, `# outside: REASON`
where a file is in no directory that others may write to, `# own text: REASON` where what is written
cannot control a terminal.
"""

import ast
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import modelrunner

PACKAGE = Path(modelrunner.__file__).parent


@dataclass(frozen=True)
class Source:
    """A module: its path in the package, and its text."""

    name: str
    text: str

    @property
    def nodes(self) -> list[ast.AST]:
        """All that is in it; parsed once for all tests."""
        return nodes(self.text)

    def calls(self) -> Iterator[ast.Call]:
        """Every call in it, in order."""
        found = [node for node in self.nodes if isinstance(node, ast.Call)]
        return iter(sorted(found, key=lambda call: (call.lineno, call.col_offset)))

    def reason(self, call: ast.Call, tag: str) -> str:
        """What a comment beside a call says after a tag, or in the line above it; empty if none."""
        lines = self.text.splitlines()
        for line in lines[call.lineno - 1 : (call.end_lineno or call.lineno)]:
            _, found, reason = line.partition(f"# {tag}: ")
            if found:
                return reason.strip()
        above = lines[call.lineno - 2].strip() if call.lineno > 1 else ""
        return above.removeprefix(f"# {tag}: ") if above.startswith(f"# {tag}: ") else ""


@contextmanager
def _kept() -> Iterator[None]:
    """The block that makes a million of what stays to the end: to look for garbage among it takes
    longer than to make it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@cache
def tree(text: str) -> ast.Module:
    """The syntax tree of a source, which is not to be changed: one for all tests."""
    with _kept():
        return ast.parse(text)


@cache
def nodes(text: str) -> list[ast.AST]:
    """All that is in a source in the order of `ast.walk`, which takes twice the time, but for what
    says whether a name is read or written: that is in the name's `ctx`.
    """
    found: list[ast.AST] = [tree(text)]
    for node in found:
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, list):
                found.extend(each for each in value if isinstance(each, ast.AST))
            elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                found.append(value)
    return found


@cache
def _all() -> list[Source]:
    return [
        Source(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def sources(*without: str) -> list[Source]:
    """All modules but some."""
    found = _all()
    left = [source for source in found if source.name not in without]
    assert len(left) == len(found) - len(without), "a module that is left out is not there"
    return left


def around(modules: list[Source], tag: str, is_one: Callable[[ast.Call], bool]) -> list[str]:
    """The calls of a kind that have no reason, as `module:line: code`."""
    return [
        f"{module.name}:{call.lineno}: {ast.unparse(call)[:80]}"
        for module in modules
        for call in module.calls()
        if is_one(call) and not module.reason(call, tag)
    ]


def called(call: ast.Call) -> str:
    """What is called, as it is written: `json.loads`, `path.open`."""
    return _written(call.func)


def _written(node: ast.expr) -> str:
    """What `ast.unparse` says, which takes ten times as long for a plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
        return f"{_written(node.value)}.{node.attr}"
    return ast.unparse(node)


def method(call: ast.Call) -> str:
    """The last part of that; empty where it is a plain function."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""
