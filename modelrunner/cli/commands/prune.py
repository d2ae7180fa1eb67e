"""`modelrunner prune`."""

from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.store.sweep import Leftover, leftovers, sweep
from modelrunner.units import format_size


@command(examples="  modelrunner prune --dry-run\n  modelrunner prune")
def prune(
    context: Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
) -> None:
    """Remove what no model needs: stopped downloads, blobs without a name, temporary files."""
    if dry_run or not context.store.layout.exists():
        gone = leftovers(context.store, partials=True)
    else:
        gone = sweep(context.store, partials=True)
    _show(context, gone, dry_run=dry_run)


def _show(context: Context, gone: tuple[Leftover, ...], *, dry_run: bool) -> None:
    freed = sum(entry.size for entry in gone)
    if context.console.json:
        items = [
            {"kind": entry.kind, "path": str(entry.path), "size_bytes": entry.size}
            for entry in gone
        ]
        context.console.emit({"dry_run": dry_run, "freed_bytes": freed, "items": items})
        return
    for entry in gone:
        context.console.print(f"{entry.kind}  {format_size(entry.size)}  {entry.path.name}")
    verb = "would be freed" if dry_run else "freed"
    context.console.say(f"{format_size(freed)} {verb}")
