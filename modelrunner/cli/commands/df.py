"""`modelrunner df`."""

from modelrunner.cli.context import Context, command
from modelrunner.operations.disk_usage import usage
from modelrunner.runtime.images.library import Library
from modelrunner.units import format_size


@command(examples="  modelrunner df --json")
def df(context: Context) -> None:
    """Show the disk usage of the local store, and what could be freed."""
    found = usage(context.store, Library(context.settings.runtimes))
    if context.console.json:
        context.console.emit(found.to_dict())
        return
    rows = [
        (entry.kind, str(entry.count), format_size(entry.size), format_size(entry.reclaimable))
        for entry in found.entries
    ]
    context.console.table(("TYPE", "COUNT", "SIZE", "RECLAIMABLE"), rows)
    context.console.say(f"{found.path}: {format_size(found.free)} free on this disk")
