"""`modelrunner prune`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.errors import UsageError
from modelrunner.lockfile.project import LOCK_NAME
from modelrunner.store.sweep import Leftover, leftovers, sweep
from modelrunner.units import format_size

if TYPE_CHECKING:
    # most prune without a lock
    from modelrunner.operations.keep import Unlocked


@command(
    examples="  modelrunner prune --dry-run\n  modelrunner prune\n"
    "  modelrunner prune --keep-locked --dry-run"
)
def prune(
    context: Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    keep_locked: Annotated[
        bool, typer.Option("--keep-locked", help="Remove the models too that no lock names.")
    ] = False,
    lock: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help=f"May be repeated. Default: {LOCK_NAME} in this folder."),
    ] = None,
) -> None:
    """Remove what no model needs: stopped downloads, blobs without a name, temporary files."""
    if lock and not keep_locked:
        raise UsageError("--lock says what to keep locked", hint="add --keep-locked")
    # a lock that cannot be read ends this before anything has gone
    models = _unlocked(context, lock or [Path(LOCK_NAME)], dry_run) if keep_locked else ()
    if dry_run or not context.store.layout.exists():
        gone = leftovers(context.store, partials=True)
    else:
        gone = sweep(context.store, partials=True)
    _show(context, models, gone, dry_run=dry_run)


def _unlocked(context: Context, locks: Sequence[Path], dry_run: bool) -> "tuple[Unlocked, ...]":
    from modelrunner.lockfile.reader import require_lock
    from modelrunner.operations.keep import remove_unlocked, unlocked

    keep = {model.manifest.digest for path in locks for model in require_lock(path).models}
    return (unlocked if dry_run else remove_unlocked)(context.store, keep)


def _show(
    context: Context,
    models: "Sequence[Unlocked]",
    gone: Sequence[Leftover],
    *,
    dry_run: bool,
) -> None:
    freed = sum(entry.freed for entry in models) + sum(entry.size for entry in gone)
    if context.console.json:
        items = [
            *(_model_to_dict(context, entry) for entry in models),
            *(
                {"kind": entry.kind, "path": str(entry.path), "size_bytes": entry.size}
                for entry in gone
            ),
        ]
        context.console.emit({"dry_run": dry_run, "freed_bytes": freed, "items": items})
        return
    for model in models:
        context.console.print(f"model  {format_size(model.freed)}  {model.title}")
    for entry in gone:
        context.console.print(f"{entry.kind}  {format_size(entry.size)}  {entry.path.name}")
    verb = "would be freed" if dry_run else "freed"
    context.console.say(f"{format_size(freed)} {verb}")


def _model_to_dict(context: Context, entry: "Unlocked") -> dict[str, object]:
    return {
        "kind": "model",
        "path": str(context.store.blobs.path(entry.model.digest)),
        "size_bytes": entry.freed,
        "digest": str(entry.model.digest),
        "references": [str(name) for name in entry.model.references],
    }
