"""The fenced snippets of a document, by the heading they stand under."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"```(\w*)")


@dataclass(frozen=True, slots=True)
class Snippet:
    """One fenced block."""

    heading: str
    language: str
    text: str


def snippets(document: Path) -> list[Snippet]:
    """All of a document's, in their order."""
    return list(_read(document.read_text().splitlines()))


def _read(lines: list[str]) -> Iterator[Snippet]:
    heading = ""
    rest = iter(lines)
    for line in rest:
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif match := _FENCE.fullmatch(line):
            yield Snippet(heading, match[1], "\n".join(iter(lambda: next(rest), "```")) + "\n")
