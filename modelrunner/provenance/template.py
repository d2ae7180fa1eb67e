"""A look at a chat template: what ordinary ones do not do, and hostile ones may.

Templates are programs in Jinja's language that come with the weights. Runtimes run them in a
sandbox or an interpreter of their own; this shows what to look at before one does. It reads, and
runs nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from modelrunner.text import sanitize_line

Level = Literal["danger", "notice"]

LONGEST = 64 * 1024
"""Characters of an unusually long template: the longest known ones have half of that."""

DEEPEST = 4
"""Loops in one another that an ordinary template has at most."""

LARGEST = 10_000
"""Turns that a counted loop, or copies that a repeated text, has at most."""

MOST = 100
"""Findings that are shown of one template; nobody reads more."""

_OPENING = r"\{[%{#]"
_CLOSINGS = {"{%": "%}", "{{": "}}", "{#": "#}"}
_TEXT = r"(?s)'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_HIDDEN = r"(?:\.|\[\s*['\"])\s*(_\w+)"
_BY_NAME = r"\|\s*(attr|map|format|selectattr|xmlattr)\b"
_WORLD = r"\b(lipsum|cycler|joiner|self|config|request|get_flashed_messages|url_for)\b"
_RANGE = r"\brange\s*\(([^)]*)\)"
_NUMBER = r"\d+"
_REPEATED = r"(?:''|\"\"|\bTEXT\b)\s*\*\s*(\d+)|(\d+)\s*\*\s*\bTEXT\b"
_DOUBLED = r"\bset\s+([\w.]+)\s*=\s*\(?\s*\1\s*[~+]\s*\1\b"
_STATEMENTS = {
    "include": "loads another template",
    "import": "loads another template",
    "from": "loads another template",
    "extends": "loads another template",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at.

    Attributes:
        level: `danger` is what no ordinary template does.
        line: Where, from 1.
        message: What it is.
        text: As it stands there, cut.
    """

    level: Level
    line: int
    message: str
    text: str

    def to_dict(self) -> dict[str, object]:
        """The finding as JSON has it."""
        return {
            "level": self.level,
            "line": self.line,
            "message": self.message,
            "text": self.text,
        }


def scan(template: str) -> tuple[Finding, ...]:
    """What is unusual about a template, in its order; nothing for an ordinary one.

    Of very many findings the first `MOST` are given, and one that says that there are more.
    """
    found = list(islice(_findings(template), MOST + 1))
    if len(found) > MOST:
        more = Finding(found[-1].level, found[-1].line, f"more than {MOST} findings", "")
        found = [*found[:MOST], more]
    return tuple(sorted(found, key=lambda finding: finding.line))


def _findings(template: str) -> Iterator[Finding]:
    if len(template) > LONGEST:
        yield Finding("notice", 1, f"{len(template)} characters long", "")
    depth, line, counted = 0, 1, 0
    for start, opening, code in _blocks(template):
        # from where the last block was: counted from the front each time, it would be quadratic
        line += template.count("\n", counted, start)
        counted = start
        shown = sanitize_line(f"{opening}{code[:120]}{_CLOSINGS[opening]}", 120)
        for level, message in _in_code(code):
            yield Finding(level, line, message, shown)
        if opening != "{%":
            continue
        word = code.split(maxsplit=1)[0] if code.split() else ""
        if word in _STATEMENTS:
            yield Finding("danger", line, _STATEMENTS[word], shown)
        if word == "for":
            depth += 1
            if depth > DEEPEST:
                yield Finding("notice", line, f"loops are nested {depth} deep", shown)
            if "recursive" in _without_texts(code).split():
                yield Finding("notice", line, "a loop calls itself", shown)
        elif word == "endfor":
            depth -= 1


def _blocks(template: str) -> Iterator[tuple[int, str, str]]:
    """Statements and expressions: where, which, and the code; comments are passed over."""
    position, unclosed = 0, set[str]()
    # what `re` has itself takes no position: its third argument is flags
    opening_from = re.compile(_OPENING).search
    while (match := opening_from(template, position)) is not None:
        opening, position = match[0], match.end()
        if opening in unclosed:
            continue
        end = template.find(_CLOSINGS[opening], position)
        if end < 0:
            # looked for once: what is never closed would be read to its end again and again
            unclosed.add(opening)
            continue
        if opening != "{#":
            yield match.start(), opening, template[position:end].strip("-+ \t\r\n")
        position = end + 2


def _in_code(code: str) -> Iterator[tuple[Level, str]]:
    bare = _without_texts(code)
    for match in re.finditer(_HIDDEN, code):
        yield "danger", f"uses the hidden attribute {sanitize_line(match[1], 40)}"
    for match in re.finditer(_BY_NAME, bare):
        if match[1] == "attr":
            yield "danger", "uses an attribute whose name is computed"
    for match in re.finditer(_WORLD, bare):
        yield "danger", f"uses {match[1]}, which can access data outside of the template"
    for match in re.finditer(_RANGE, bare):
        # bounded: eighteen digits
        sizes = [int(number[:18]) for number in re.findall(_NUMBER, match[1])]
        if max(sizes, default=0) > LARGEST:
            yield "danger", f"counts to {max(sizes)}"
    for match in re.finditer(_REPEATED, bare):
        # bounded: eighteen digits
        count = int((match[1] or match[2])[:18])
        if count > LARGEST:
            yield "danger", f"repeats a text {count} times"
    if re.search(_DOUBLED, bare):
        yield "danger", "doubles a text, which can exhaust memory in a loop"


def _without_texts(code: str) -> str:
    """The code with each quoted text as one word: what stands in them is not code."""
    return re.sub(_TEXT, "TEXT", code)
