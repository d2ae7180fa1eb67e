"""The sentences of the program that people read, found in its source, and words that they should
not have: what they say is right, and a reader with English as a second language stumbles over it.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from tests.support.sources import called, nodes, tree

ODD: Mapping[str, str] = {
    r"\b(?:is|are|was|were) no\b": "invalid, unknown, missing, not found, not a valid X",
    r"\b(?:is|are|was|were) none\b": "invalid, missing, not a valid X",
    r"\btold\b|\btells?\b": "show, print, list, report",
    r"\banew\b": "again",
    r"\b(?:whoever|nobody|somebody|everybody|anybody)\b": "anyone who, no X",
    r"manieth|\bso (?:many|much|long)\b(?! as\b)": "a number, a limit, every n-th",
    r"\bhere\b": "in the local store, on this machine, in this directory",
    r"quantis|\blicen[c]es?\b|cancelled|cancelling|catalogue|colour|behaviour|favour|honour"
    r"|(?:recogn|author|initial|normal|organ|summar|optim|special)is(?:e|ing|ation)": (
        "American spelling"
    ),
    r"\bfolders?\b": "directory",
    r"(?<!\()\b[Dd]efault: ": "(default: X) at the end",
    r"\bmay (?:be )?repeat(?:ed)?\b|\brepeatable\b": "can be repeated",
    r"\bexit status\b": "exit code",
    r"\bcontradict": "cannot be combined",
    r"\bthere (?:is|are) (?:no|nothing|nobody|none)\b": "no X",
    r"\brules? .{1,40} out\b": "X is set",
    r"\bnothing would\b": "must be",
    r"\bfetch(?:es|ed|ing)?\b": "download, pull",
    r"\bholds? against\b|\bheld against\b": "verify with",
    r"\bpictures?\b": "image, chart",
    r"\bgo(?:es)? on\b": "continue, resume",
    r"\balready there\b|\bthere already\b": "already exists, in the local store, skipped",
    r"\bheeds?\b": "ignore, support",
    r"\bamid\b": "during, within",
}
"""Patterns of odd words, and what to write instead."""

NAMES: Mapping[str, str] = {
    "Door": "AccessPolicy",
    "Guarded": "AccessMiddleware",
    "Fleet": "ModelPool",
    "Seat": "Slot",
    "lineup": "models",
    "figures": "metrics",
    "refusals": "errors",
    "Course": "ResponseState",
    "toil": "run",
    "hear": "on_event, parse",
    "heard": "received, announced, queue",
    "told": "a noun for what it is",
    "Wish": "EstimateRequest, LaunchRequest",
    "wish": "request",
    "Wanted": "ModelIntent, CardFilter",
    "Places": "Registries",
    "Preference": "fallback sources",
    "narrow": "translate",
    "taking": "adopt",
    "making": "build_artifact",
    "learning": "observations",
    "asking": "one_shot",
    "handover": "handshake",
    "Lack": "MissingBlobs",
    "anew": "again",
}
"""Names that only their author understands, and the field's terms."""

ODD_IN_DOCSTRINGS: Sequence[str] = (
    r"(?<!there )(?<!There )\b(?:is|are|was|were) no\b(?! longer| more| limit|\.)",
    r"(?<!there )(?<!There )\b(?:is|are|was|were) none\b",
    r"\b(?:told|tells?)\b(?! (?:\w+ )?apart)",
    r"\banew\b",
    r"\bwhoever\b",
    r"manieth|\bso (?:many|much|long)\b(?! as\b)(?! more\b)",
    r"quantis|normalis|recognis|labelled|\blicence|cancelled|cancelling|catalogue|behaviour",
)
"""Patterns of the oddest words: those that a docstring must not have either."""

_LIMIT = 160
_ANY_ODD = re.compile("|".join(f"(?:{pattern})" for pattern in ODD))


@cache
def sentences(source: str) -> list[tuple[int, str]]:
    """The line and text of each string with a blank in it that is not a docstring, and of the
    docstrings of commands, which are their help. What an f-string inserts is `{}`.
    """
    return list(_sentences(source))


def _sentences(source: str) -> Iterator[tuple[int, str]]:
    silent = {id(node) for node in _silent(nodes(source))}
    for node in nodes(source):
        if id(node) in silent:
            continue
        if isinstance(node, ast.JoinedStr):
            # its parts come by themselves too
            silent |= {id(part) for part in node.values}
            text = "".join(map(_part, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if " " in text.strip():
            yield node.lineno, text


def prose(page: str) -> Iterator[tuple[int, str]]:
    """The number and text of each line of a page of Markdown, without code."""
    fenced = False
    for number, line in enumerate(page.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, re.sub(r"`[^`]*`", "", line)


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """The line and text of each docstring of a module and of its public names, without code."""

    def visit(node: ast.Module | ast.ClassDef) -> Iterator[tuple[int, str]]:
        text = ast.get_docstring(node)
        if text is not None:
            yield node.body[0].lineno, re.sub(r"`[^`]*`", "", text)
        for each in node.body:
            if not isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if each.name.startswith("_"):
                continue
            if isinstance(each, ast.ClassDef):
                yield from visit(each)
            elif (said := ast.get_docstring(each)) is not None:
                yield each.body[0].lineno, re.sub(r"`[^`]*`", "", said)

    return visit(tree(source))


def odd_in_docstring(text: str) -> list[str]:
    """The odd words of a docstring."""
    return [
        f"{found[0]!r} in {' '.join(text[max(0, found.start() - 40) : found.end() + 40].split())!r}"
        for pattern in ODD_IN_DOCSTRINGS
        for found in re.finditer(pattern, text)
    ]


def names(source: str) -> Iterator[tuple[int, str]]:
    """The line and text of each name that a module gives to something."""
    for node in nodes(source):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def faults(text: str) -> list[str]:
    """What is odd about a sentence, and what to write instead."""
    if _ANY_ODD.search(text) is None:
        return []
    return [
        f"{found[0]!r} in {text[:_LIMIT]!r}: {better}"
        for pattern, better in ODD.items()
        if (found := re.search(pattern, text)) is not None
    ]


def _part(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "{}"


def _silent(source: Sequence[ast.AST]) -> Iterator[ast.expr]:
    """Strings that nobody reads but those who read the source: docstrings and patterns."""
    for node in source:
        for statement in getattr(node, "body", None) or () if not _is_expression(node) else ():
            if isinstance(statement, ast.Expr) and not _is_help(node):
                yield statement.value
        if isinstance(node, ast.Call) and called(node).startswith("re."):
            for argument in node.args:
                yield from (inner for inner in ast.walk(argument) if isinstance(inner, ast.expr))


def _is_expression(node: ast.AST) -> bool:
    return isinstance(node, ast.IfExp | ast.Lambda)


def _is_help(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any(
        ast.unparse(decorator).startswith("command(") for decorator in node.decorator_list
    )
