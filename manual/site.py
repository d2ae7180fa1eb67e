"""Hooks of the site's build: the pages at the top of the repository, and the reference of commands.

`README.md` becomes the first page, and what it says of each command comes from the commands.
"""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from mkdocs.structure.files import File, Files
from pages import ROOT, Page, pages

_FROM_TOP = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
_PLACE = "<!-- commands -->"
# files of the repository that are no pages
_BESIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)*(?:LICENSE|docs/schemas/[^)]*|schemas/[^)]*)\)")


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401 - mkdocs' own is untyped
    """Adds the pages that lie at the top."""
    for source, name in _FROM_TOP.items():
        text = (ROOT / source).read_text("utf-8")
        for other, page in _FROM_TOP.items():
            text = text.replace(f"]({other}", f"]({page}")
        text = re.sub(r"\]\(docs/([\w./-]+)(?=[)#])", _within, text)
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:  # noqa: ANN401 - see above
    """Puts in what is made of the commands; links to what is no page become text."""
    up = "../" * page.file.src_uri.count("/")
    for source, name in _FROM_TOP.items():
        markdown = markdown.replace(f"](../{up}{source}", f"]({up}{name}")
    markdown = _BESIDE.sub(r"\1", markdown)
    if _PLACE in markdown:
        markdown = markdown.replace(_PLACE, "\n".join(map(_reference, pages())))
    return markdown


def _within(found: re.Match[str]) -> str:
    path = found[1]
    return f"]({path}" if "." in path.rpartition("/")[2] else f"]({path}/README.md"


def _reference(page: Page) -> str:
    lines = [f"### {page.name}", "", *(f"{text}\n" for text in page.description)]
    lines += ["```console", f"$ modelrunner {page.name} {page.usage}", "```", ""]
    for title in ("Arguments", "Options"):
        if rows := page.parameters[title]:
            lines += [f"| {title.lower()} | |", "|---|---|"]
            lines += [f"| <code>{_cell(term)}</code> | {_cell(text)} |" for term, text in rows]
            lines.append("")
    for title, text in page.more.items():
        lines += [f"{title}:", "", "```text", *text, "```", ""]
    if page.examples:
        lines += ["```console", *(f"$ {line}" for line in page.examples), "```", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
