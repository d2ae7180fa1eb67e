"""One command per file: parse, call one operation, show the result."""

import typer

from modelrunner.cli.commands import (
    df,
    list,  # noqa: A004 - the command's name
    package,
    path,
    prune,
    pull,
    rm,
    share,
    tag,
    verify,
    version,
)

_COMMANDS = (pull, list, path, rm, tag, df, prune, verify, package, share, version)


def register_all(app: typer.Typer) -> None:
    """Adds every command, in the order that `--help` shows them."""
    for module in _COMMANDS:
        module.register(app)
