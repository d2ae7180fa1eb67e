"""`modelrunner inspect` and `modelrunner tags`."""

from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.oci.reference import Reference
from modelrunner.operations.inspect import inspect_remote, inspect_stored
from modelrunner.text import sanitize_line


@command(
    examples="  modelrunner inspect ai/smollm2\n"
    "  modelrunner inspect --remote ai/granite-4.0-micro:3B-Q4_K_M"
)
def inspect(
    context: Context,
    reference: Annotated[str, typer.Argument(metavar="REF")],
    remote: Annotated[
        bool, typer.Option("--remote", "-r", help="Ask the registry, pull nothing.")
    ] = False,
) -> None:
    """Print everything that is known about one model, as JSON."""
    if remote:
        name = Reference.parse(reference)
        context.console.emit(inspect_remote(context.source_for(name), name))
    else:
        context.console.emit(inspect_stored(context.store, context.store.resolve(reference)))


@command(examples="  modelrunner tags ai/granite-4.0-micro")
def tags(context: Context, reference: Annotated[str, typer.Argument(metavar="REF")]) -> None:
    """List the tags that a repository has in its registry."""
    name = Reference.parse(reference)
    found = context.source_for(name).tags(name)
    if context.console.json:
        context.console.emit({"repository": name.name, "tags": list(found)})
        return
    for tag in found:
        context.console.print(sanitize_line(tag, 128))
