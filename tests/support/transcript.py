"""Terminal sessions in a document: run again, compared by shape, and written anew.

A block of the language `console` has commands behind `$ ` and what they print. Two outputs have one
shape where they differ only in figures, digests, times and places. In a document `...` stands for
anything: within a line, or for lines where it is alone.

```console
$ modelrunner df
TYPE    COUNT  SIZE  RECLAIMABLE
...
```
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHAPES = (
    # what a model answers is its own
    (r".*\bParis\b.*", "ANSWER"),
    (r"http://127\.0\.0\.1:\d+", "ADDRESS"),
    (r"\bfrom (ADDRESS|docker\.io)\b", "from SOURCE"),
    (r"\b(?=[a-f]*\d)[0-9a-f]{7,64}\b", "HEX"),
    (r"\b\d+(\.\d+)? (B|KiB|MiB|GiB|TiB)\b", "SIZE"),
    (r"\b\d+ (second|minute|hour|day|week|month|year)s? ago\b", "AGE"),
    (r"\b(\d+m )?\d+(\.\d+)? ?s\b", "TIME"),
    (r"\b\d+(\.\d+)*[KM]?\b", "N"),
    (r"\bN threads?\b", "N threads"),
    (r" +", " "),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a document, and what the document says that it prints."""

    command: str
    output: str


def steps(document: str) -> list[Step]:
    """Every command of a document, in order."""
    return [step for block in _BLOCK.findall(document) for step in _steps(block)]


def rewritten(document: str, run: Callable[[str], str]) -> str:
    """Return the document with the outputs that its commands have now.

    An output stays where it still has the shape of the new one: figures alone are no news.
    """

    def block(found: re.Match[str]) -> str:
        return f"```console\n{''.join(map(_again, _steps(found[1])))}```"

    def _again(step: Step) -> str:
        printed = run(step.command)
        kept = same_shape(step.output, printed)
        return f"$ {step.command}\n{step.output if kept else printed}"

    return _BLOCK.sub(block, document)


def same_shape(documented: str, printed: str) -> bool:
    """Whether an output is what a document says, but for what differs from run to run."""
    parts = []
    for line in documented.splitlines():
        if line == "...":
            parts.append(r"(?:.*\n)*")
        else:
            pieces = (re.escape(_shape(piece)) for piece in line.split("..."))
            parts.append(".*".join(pieces) + r"\n")
    return (
        re.fullmatch("".join(parts), "".join(f"{_shape(line)}\n" for line in printed.splitlines()))
        is not None
    )


def update(path: Path, run: Callable[[str], str]) -> None:
    """Write the outputs that the commands of a document have now into it."""
    path.write_text(rewritten(path.read_text("utf-8"), run), "utf-8")


def _steps(block: str) -> list[Step]:
    # a command goes on behind a backslash
    found = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    return [Step(command, output) for command, output in found]


def _shape(text: str) -> str:
    for pattern, shape in _SHAPES:
        text = re.sub(pattern, shape, text)
    return text.rstrip()
