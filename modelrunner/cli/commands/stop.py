"""`modelrunner stop`."""

from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.errors import UsageError
from modelrunner.serve.process.control import stop as stop_one
from modelrunner.serve.process.control import stop_all


@command(examples="  modelrunner stop ai/smollm2\n  modelrunner stop --all")
def stop(
    context: Context,
    references: Annotated[
        list[str] | None, Argument(metavar="[REF...]", help="Models to stop.")
    ] = None,
    everything: Annotated[bool, Option("--all", help="Stop all servers.")] = False,
) -> None:
    """Stop serving models, in every server that has them. A server ends with its last model."""
    if everything == bool(references):
        raise UsageError(
            "nothing to stop: no model given"
            if not references
            else "--all and model names cannot be combined",
            hint="name a model, or use --all; `modelrunner ps` lists served models",
        )
    folder = context.settings.servers
    if everything:
        stopped = stop_all(folder)
    else:
        stopped = [each for text in references or [] for each in stop_one(folder, text)]
    if context.console.json:
        context.console.emit([entry.to_dict() for entry in stopped])
        return
    several = len({entry.url for entry in stopped}) > 1
    for entry in stopped:
        for name in entry.models:
            where = f" at {entry.url}" if several else ""
            context.console.print(f"Stopped: {name}{where}")
        if entry.server_ended:
            context.console.say(f"stopped the server at {entry.url}")
    if not stopped:
        context.console.say("no models are served")
