"""`modelrunner help`."""

from contextlib import redirect_stdout
from io import StringIO
from typing import Annotated

import typer

from modelrunner.cli.command_table import COMMANDS
from modelrunner.cli.context import Context, command


@command(examples="  modelrunner help\n  modelrunner help run", name="help")
def show_help(
    context: Context,
    name: Annotated[str | None, typer.Argument(metavar="[COMMAND]")] = None,
) -> None:
    """Show the commands, or the options and examples of one."""
    root = context.invocation.find_root().command
    words = ["--help"] if name is None else [name, "--help"]
    if not context.console.json:
        root.main(words, prog_name="modelrunner", standalone_mode=False)
        return
    if name is None:
        shown = {name: entry for name, entry in COMMANDS.items() if not entry.hidden}
        commands = [{"name": name, "summary": entry.summary} for name, entry in shown.items()]
        context.console.emit({"commands": commands})
        return
    with redirect_stdout(StringIO()) as text:
        root.main(words, prog_name="modelrunner", standalone_mode=False)
    context.console.emit({"command": name, "help": text.getvalue()})
