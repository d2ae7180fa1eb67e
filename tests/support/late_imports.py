"""Imports inside functions, found in the source: what loads late hides what depends on what."""

import ast
from collections.abc import Iterator, Sequence

from tests.support.sources import nodes

MARK = "# late imports: "
"""Begins the comment that says, for a whole module, why its functions import."""


def unexplained(source: str, package: str) -> Iterator[tuple[int, str]]:
    """The line and name of each module of `package` that a function imports without a reason.

    A reason is a comment above the import, or above the imports that it stands with, or behind it;
    or a comment of the module that begins with `MARK`.
    """
    lines = source.splitlines()
    if any(line.startswith(MARK) for line in lines):
        return
    for node in _imports(nodes(source)):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
        ours = [name for name in names if name.partition(".")[0] == package]
        if ours and not _has_comment(lines, node.lineno):
            yield node.lineno, ours[0]


def _imports(source: Sequence[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    for function in source:
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield node


def _has_comment(lines: list[str], number: int) -> bool:
    if "#" in lines[number - 1]:
        return True
    above = number - 2
    while above >= 0 and _continues(lines[above]):
        above -= 1
    return above >= 0 and lines[above].lstrip().startswith("#")


def _continues(line: str) -> bool:
    """Whether a line belongs to imports that stand together; a blank one between groups too."""
    text = line.strip()
    return not text or text.startswith(("import ", "from ", ")")) or text.endswith(",")
