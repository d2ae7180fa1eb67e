"""A module of the program that a function imports has a reason to be loaded late."""

from pathlib import Path

import pytest

import modelrunner
from tests.support.late_imports import unexplained

pytestmark = pytest.mark.xdist_group("sources")

ROOT = Path(modelrunner.__file__).parent


def test_every_import_in_a_function_says_why() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted(ROOT.rglob("*.py"))
        for line, name in unexplained(path.read_text(), "modelrunner")
    ]
    assert not found, "\n".join(found)


IMPORT = "def f():\n    {}from modelrunner.a import b\n"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (IMPORT.format(""), [2]),
        (IMPORT.format("# only who draws\n    "), []),
        (IMPORT.format("# only who draws\n    import io\n\n    "), []),
        (IMPORT.format("x = 1  # not a reason\n    "), [3]),
        ("def f():\n    from modelrunner import a  # only who draws\n", []),
        ("# late imports: `--help` needs none\n" + IMPORT.format(""), []),
        ("class A:\n    async def f(self):\n        import modelrunner.a\n", [3]),
        ("import modelrunner.a\n\ndef f():\n    import requests\n", []),
    ],
)
def test_what_has_no_reason_is_found(source: str, lines: list[int]) -> None:
    assert [line for line, _ in unexplained(source, "modelrunner")] == lines
