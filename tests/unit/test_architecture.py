"""What docs/architecture.md says is where is there."""

import re
from pathlib import Path

import modelrunner

ROOT = Path(modelrunner.__file__).parent
PAGE = (ROOT.parent / "docs" / "architecture.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first heading is this, without its head."""
    table = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table.splitlines()[2:]
    ]


def test_each_package_of_the_tree_is_described() -> None:
    described = {name for first, _ in rows("package") for name in re.findall(r"`([\w/]+)`", first)}
    there = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert there <= described | {"version"}
    for name in described:
        assert (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file(), name


def test_the_answers_name_what_is_there() -> None:
    answers = [answer for _, answer in rows("question")]
    assert len(answers) >= 5
    source = "".join(path.read_text() for path in ROOT.rglob("*.py"))
    for span in (span for answer in answers for span in re.findall(r"`([^`]+)`", answer)):
        if "/" in span:
            assert (ROOT / span).exists(), span
        else:
            assert re.search(rf"def {span}\b", source), span
