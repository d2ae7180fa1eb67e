"""What the documentation has to say of messages is found under words that messages have."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.sources import PACKAGE, sources

# one worker parses everything
pytestmark = pytest.mark.xdist_group("sources")

PAGE = PACKAGE.parent / "docs" / "troubleshooting.md"


def test_every_entry_is_found_under_words_of_a_message() -> None:
    keys = re.findall(r"^\*\*(.+?)\.?\*\*", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(keys) > 10
    said = "\n".join(texts())
    unknown = [
        key
        for key in keys
        if not re.search(".*".join(map(re.escape, key.replace("`", "").split(" ... "))), said)
    ]
    assert unknown == []


def texts() -> Iterator[str]:
    """Every text in the package, one a line; what is filled in stands as three dots."""
    for module in sources():
        for node in module.nodes:
            if isinstance(node, ast.JoinedStr):
                parts = (
                    str(part.value) if isinstance(part, ast.Constant) else "..."
                    for part in node.values
                )
                yield "".join(parts).replace("\n", " ").replace("`", "")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value.replace("\n", " ").replace("`", "")
