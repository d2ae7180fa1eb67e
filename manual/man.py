"""Makes the manual pages, `modelrunner.1` and one a command: `python manual/man.py FOLDER`.

They are made when a wheel is built, see `hatch_build.py`. What they say comes from the commands,
and from the tables of exit codes and of settings in `docs/ci.md`.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from pages import ROOT, Page, Rows, global_options, pages

from modelrunner import __version__

_ABOUT = (
    "modelrunner pulls language models from OCI registries and the Hugging Face Hub, verifies every"
    " byte, says whether a model fits into memory before it is downloaded, and runs it with"
    " llama.cpp. There is no daemon: each command is one process."
)
_CI = ROOT / "docs" / "ci.md"


def main() -> None:
    """Write the pages into the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in manual().items():
        (folder / name).write_text(text, encoding="utf-8")


def manual() -> dict[str, str]:
    """Every page, by the name of its file."""
    found = pages()
    made = {"modelrunner.1": _overview(found)}
    return made | {f"modelrunner-{page.name}.1": _of_command(page) for page in found}


def _overview(found: list[Page]) -> str:
    commands: list[str] = []
    for group in dict.fromkeys(page.group for page in found):
        rows = [
            (f"modelrunner-{page.name}(1)", page.summary) for page in found if page.group == group
        ]
        commands += [f".SS {group}", *_terms(rows)]
    return _file(
        "modelrunner",
        "pull, check and run language models as OCI artifacts",
        [
            *_section(
                "Synopsis",
                ["\\fBmodelrunner\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGS\\fR]..."],
            ),
            *_section(
                "Description",
                [escape(_ABOUT)],
            ),
            *_section("Commands", commands),
            *_section("Global options", _terms(global_options())),
            *_section("Exit codes", _terms(_table("Exit codes"))),
            *_section("Environment", _terms(_table("Settings"))),
            *_section(
                "Files",
                _terms(
                    [
                        ("$MODELRUNNER_HOME/store", "models: an OCI image layout"),
                        ("$MODELRUNNER_HOME/config.toml", "settings"),
                        ("$MODELRUNNER_HOME/state", "logs, histories, records of servers"),
                        ("modelrunner.toml", "the models that a project wants"),
                        ("modelrunner.lock", "what they are, by digest"),
                    ]
                ),
            ),
        ],
    )


def _of_command(page: Page) -> str:
    synopsis = f"\\fBmodelrunner {escape(page.name)}\\fR {escape(page.usage)}"
    body = _section("Synopsis", [synopsis])
    paragraphs = [line for text in page.description for line in (".PP", escape(text))]
    if page.aliases:
        others = ", ".join(f"`modelrunner {alias}`" for alias in page.aliases)
        paragraphs += [".PP", escape(f"Also known as {others}.")]
    body += _section("Description", paragraphs[1:])
    for title, rows in page.parameters.items():
        body += _section(title, _terms(rows))
    for title, lines in page.more.items():
        body += _section(title, _verbatim(lines))
    body += _section("Examples", _verbatim(f"    {line}" for line in page.examples))
    body += _section("See also", [f"\\fB{escape('modelrunner')}\\fR(1)"])
    return _file(f"modelrunner-{page.name}", page.summary.rstrip("."), body)


def _file(name: str, summary: str, body: Iterable[str]) -> str:
    title = escape(name.upper())
    head = [
        '.\\" made by manual/man.py',
        f'.TH "{title}" "1" "" "modelrunner {escape(__version__)}" "modelrunner manual"',
        # neither hyphens at the ends of lines nor spread words: commands are copied from here
        ".nh",
        ".ad l",
        *_section("Name", [f"{escape(name)} \\- {escape(summary)}"]),
    ]
    return "\n".join([*head, *body]) + "\n"


def _section(title: str, lines: list[str]) -> list[str]:
    return [f".SH {title.upper()}", *lines] if lines else []


def _terms(rows: Rows) -> list[str]:
    return [
        line
        for term, meaning in rows
        for line in (".TP", f"\\fB{escape(term, bold=False)}\\fR", escape(meaning) or "\\&")
    ]


def _verbatim(lines: Iterable[str]) -> list[str]:
    return [".nf", *(escape(line, bold=False) for line in lines), ".fi"]


def _table(heading: str) -> Rows:
    """The first table of two columns below a heading of `docs/ci.md`."""
    text = _CI.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return [(term.replace("`", ""), meaning) for term, meaning in rows if term != rows[0][0]]


def escape(text: str, *, bold: bool = True) -> str:
    """Return a line as roff takes it, without references to other pages of the documentation.

    Args:
        text: The line.
        bold: Set what stands between backticks in bold, and not between backticks.
    """
    # the page that a table of the documentation refers to is not among these
    text = re.sub(r", see \[[^\]]+\]\([^)]+\)", "", text)
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha")
    text = text.replace("~", "\\(ti")
    if bold:
        text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    text = text.replace("`", "\\(ga")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    main()
