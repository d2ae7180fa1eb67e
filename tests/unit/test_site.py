"""Every page of the documentation is in the site's navigation; `make docs` checks the links."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
# a list of their own leads to them
LISTED = {path.name for path in (ROOT / "docs" / "decisions").glob("0*.md")}
# pages that lie at the top of the repository
MADE = {"index.md", "contributing.md", "changelog.md"}


def test_every_page_is_in_the_navigation() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = [
        page
        for entry in site["nav"]
        for value in entry.values()
        for page in ([value] if isinstance(value, str) else value)
    ]
    docs = ROOT / "docs"
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    assert {*named} == {page for page in pages if Path(page).name not in LISTED} | MADE
    assert len(named) == len({*named})


def test_every_decision_is_listed() -> None:
    text = (ROOT / "docs" / "decisions" / "README.md").read_text()
    assert all(f"]({name})" in text for name in LISTED)
