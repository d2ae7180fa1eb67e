"""What `modelrunner --help` prints, without the parser that prints all other help.

A test compares it with what Typer makes of the same declarations. A narrow terminal is left to
Typer.
"""

from collections.abc import Iterable, Mapping
from enum import EnumMeta
from textwrap import wrap

from modelrunner.cli.parser.command_table import COMMANDS, GROUPS
from modelrunner.cli.parser.declared import Option, Parameter

HELP = """Pull language models as OCI artifacts, check whether they fit, and run them.

No daemon, no Docker needed."""
EPILOG = "Run `modelrunner help COMMAND` for a command's options and examples."

COLUMNS = 80
"""The narrowest terminal, and the width of the text without a terminal."""

_WIDEST = 100

_TERMS = 30
"""The widest term beside which a meaning stands; below a wider one."""


def overview(parameters: Iterable[Parameter], columns: int) -> str:
    """Return the help of the program.

    Args:
        parameters: The options before the name of a command.
        columns: The width of the terminal, at least `COLUMNS`.
    """
    longest = max(len(name) for names in GROUPS.values() for name in names)
    groups = {
        title: {f"{name:<{longest}}": COMMANDS[name].summary for name in names}
        for title, names in GROUPS.items()
    }
    options = dict(_term(entry) for entry in parameters)
    options["-h, --help"] = "Show this message and exit."
    sections = {**groups, "Global options": options}
    width = min(columns, _WIDEST) - 2
    parts = [
        "Usage: modelrunner [OPTIONS] COMMAND [ARGS]...",
        _indented(HELP),
        *(_section(title, rows, width) for title, rows in sections.items()),
        _indented(EPILOG),
    ]
    return "\n\n".join(parts) + "\n"


def _term(parameter: Parameter) -> tuple[str, str]:
    """Return an option with its values, and its meaning."""
    option, kind = parameter.declaration, parameter.kind
    if not isinstance(option, Option):
        raise TypeError(parameter.name)
    names = ", ".join(sorted(option.names, key=len))
    values = f" <{'|'.join(map(str, kind))}>" if isinstance(kind, EnumMeta) else ""
    return f"{names}{values}", option.help or ""


def _section(title: str, rows: Mapping[str, str], width: int) -> str:
    column = min(max(map(len, rows)), _TERMS)
    lines = [f"{title}:"]
    for term, meaning in rows.items():
        first, *rest = wrap(meaning, width - column - 4)
        if len(term) <= column:
            lines.append(f"  {term:<{column}}  {first}")
        else:
            lines.append(f"  {term}")
            rest.insert(0, first)
        lines += [f"{'':{column + 4}}{line}" for line in rest]
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.splitlines())
