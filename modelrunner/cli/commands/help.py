"""`modelrunner help`."""

from contextlib import redirect_stdout
from io import StringIO
from typing import Annotated, Any

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.command_table import COMMANDS, GROUPS
from modelrunner.cli.parser.declared import Argument
from modelrunner.errors import UsageError
from modelrunner.text import sanitize_line, suggest


@command(examples="  modelrunner help\n  modelrunner help run", name="help")
def show_help(
    context: Context,
    words: Annotated[
        list[str] | None,
        Argument(metavar="[COMMAND...]", help="Command to explain (default: list them all)."),
    ] = None,
) -> None:
    """Show help: all commands, or the options and examples of one."""
    # every help text is Typer's
    from modelrunner.cli.by_typer import parser

    root = parser()
    names = list(words or ())
    _require_command(root, names)
    if not context.console.json:
        root.main([*names, "--help"], prog_name="modelrunner", standalone_mode=False)
        return
    if not names:
        commands = [
            {"name": name, "group": group, "summary": COMMANDS[name].summary}
            for group, listed in GROUPS.items()
            for name in listed
        ]
        context.console.emit({"commands": commands})
        return
    with redirect_stdout(StringIO()) as text:
        root.main([*names, "--help"], prog_name="modelrunner", standalone_mode=False)
    context.console.emit({"command": " ".join(names), "help": text.getvalue()})


def _require_command(root: Any, words: list[str]) -> None:  # noqa: ANN401 - typer's own is private
    """Refuse words that lead to no command.

    Raises:
        UsageError: A word is not a command of the one before it; the near ones are named.
    """
    found, path = root, ["modelrunner"]
    place = root.context_class(root, info_name="modelrunner")
    for word in words:
        shown = sanitize_line(word, 100)
        known = found.list_commands(place) if hasattr(found, "list_commands") else []
        if not known:
            raise UsageError(
                f"`{' '.join(path)}` has no subcommand `{shown}`",
                hint=f"`modelrunner help {' '.join(path[1:])}` lists its options",
            )
        if found is root:
            # it knows aliases too, and what other programs call a command
            _, found, _ = root.resolve_command(place, [word])
        else:
            inner = found.get_command(place, word)
            if inner is None:
                raise UsageError(
                    f"unknown command `{' '.join([*path, shown])}`",
                    hint=suggest(word, known)
                    or f"`modelrunner help {' '.join(path[1:])}` lists its commands",
                )
            found = inner
        path.append(word)
