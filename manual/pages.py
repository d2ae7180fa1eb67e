"""What the manual says of each command, read from the commands themselves."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


from modelrunner.cli.by_typer import parser as typer_parser
from modelrunner.cli.parser.command_table import ALIASES, COMMANDS, GROUPS
from modelrunner.cli.parser.help_text import parameters

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """One command.

    Attributes:
        name: What is typed behind `modelrunner`.
        group: Where `modelrunner --help` lists it.
        summary: What it does, in one line.
        usage: What can follow its name.
        description: What it does, a paragraph an entry.
        parameters: Arguments, options and global options: terms and their meanings, by title.
        more: Text before the examples, by title; lines keep their breaks.
        examples: Command lines.
        aliases: Other names of it.
    """

    name: str
    group: str
    summary: str
    usage: str
    description: list[str]
    parameters: dict[str, Rows]
    more: dict[str, list[str]]
    examples: list[str]
    aliases: list[str]


def pages() -> list[Page]:
    """Every command that is shown, in the order of `--help`."""
    root: Any = typer_parser()
    above = root.context_class(root, info_name="modelrunner", **root.context_settings)
    return [_page(root, above, group, name) for group, names in GROUPS.items() for name in names]


def global_options() -> Rows:
    """The options that come before a command's name, or behind it."""
    root: Any = typer_parser()
    found = parameters(root.context_class(root, info_name="modelrunner"), shared=())
    return found["Options"]


def _page(root: Any, above: Any, group: str, name: str) -> Page:  # noqa: ANN401 - the parser's are private
    command = root.get_command(above, name)
    ctx = command.context_class(command, info_name=name, parent=above)
    sections = [part.lstrip("\b\n") for part in (command.epilog or "").split("\n\n")]
    titled = {part.partition(":\n")[0]: part.partition(":\n")[2].splitlines() for part in sections}
    examples = titled.pop("Examples", [])
    return Page(
        name,
        group,
        COMMANDS[name].summary,
        " ".join(command.collect_usage_pieces(ctx)),
        [" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")],
        parameters(ctx, shared=command.shared),
        titled,
        [line.strip() for line in examples],
        sorted(alias for alias, meant in ALIASES.items() if meant == name)
        + [other for other, entry in COMMANDS.items() if entry.hidden and _same(other, name)],
    )


def _same(one: str, other: str) -> bool:
    return COMMANDS[one].place == COMMANDS[other].place
