"""`modelrunner help`."""

from typing import Annotated

import typer

from modelrunner.cli.context import Context, command


@command(examples="  modelrunner help\n  modelrunner help run", name="help")
def show_help(
    context: Context,
    name: Annotated[str | None, typer.Argument(metavar="[COMMAND]")] = None,
) -> None:
    """Show the commands, or the options and examples of one."""
    words = ["--help"] if name is None else [name, "--help"]
    root = context.invocation.find_root()
    root.command.main(words, prog_name="modelrunner", standalone_mode=False)
