"""What the documentation has to say of messages is found under words that messages have."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from modelrunner.errors import ExitStatus
from tests.support.sources import PACKAGE, sources
from tests.unit.test_every_error_has_a_hint import called, calls, error_classes

# one worker parses everything
pytestmark = pytest.mark.xdist_group("sources")

PAGE = PACKAGE.parent / "docs" / "troubleshooting.md"


def test_every_exit_code_has_a_section_with_an_entry() -> None:
    assert {*sections()} == {status for status in ExitStatus if status is not ExitStatus.OK}
    assert all(sections().values())


def test_every_entry_is_found_under_words_of_a_message() -> None:
    # a text has one line, and a pattern does not go beyond it
    said = "\n".join(texts())
    entries = [entry for found in sections().values() for entry in found]
    assert len(entries) > 30
    assert [entry for entry in entries if not pattern(entry).search(said)] == []


def test_an_entry_is_in_the_section_of_its_exit_code() -> None:
    raised = [*messages()]
    assert len(raised) > 300
    wrong = []
    for status, entries in sections().items():
        for entry in entries:
            codes = {code for text, code in raised if pattern(entry).search(text)}
            # what is put together elsewhere has no code that the source tells
            if codes and status not in codes:
                wrong.append((entry, status, codes))
    assert wrong == []


@cache
def sections() -> dict[ExitStatus, list[str]]:
    """The entries of the page, by the exit code that they stand under."""
    parts = re.split(r"^## Exit code (\d+): .+$", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {
        ExitStatus(int(code)): re.findall(r"^\*\*(.+?)\.?\*\*", text, re.MULTILINE)
        for code, text in zip(parts[::2], parts[1::2], strict=True)
    }


def pattern(entry: str) -> re.Pattern[str]:
    """An entry as it is found in a message; three dots are anything."""
    return re.compile(".*".join(map(re.escape, entry.replace("`", "").split(" ... "))))


def messages() -> Iterator[tuple[str, ExitStatus]]:
    """Every message that is written where it is raised, with the exit code of its class."""
    classes = error_classes()
    for _, call in calls({*classes}):
        if call.args:
            for text in _text(call.args[0]):
                yield text, classes[called(call)].exit_code


def texts() -> Iterator[str]:
    """Every text in the package; what is filled in stands as three dots."""
    for module in sources():
        for node in module.nodes:
            yield from _text(node)


def _text(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        parts = (
            str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values
        )
        yield "".join(parts).replace("\n", " ").replace("`", "")
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value.replace("\n", " ").replace("`", "")
