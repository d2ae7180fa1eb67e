"""`modelrunner prune`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Option
from modelrunner.cli.steps.confirm import Yes, confirm
from modelrunner.errors import UsageError
from modelrunner.lockfile.project import LOCK_NAME
from modelrunner.lockfile.reader import require_lock
from modelrunner.store.sweep import Leftover, leftovers, sweep
from modelrunner.units import counted, format_size

# late imports: most prune without a lock
if TYPE_CHECKING:
    from modelrunner.operations.lock.prune import RemovalPlan, Unlocked


@command(
    examples="  modelrunner prune --dry-run\n  modelrunner prune\n"
    "  modelrunner prune --keep-locked --dry-run\n"
    "  modelrunner prune --keep-locked --lock a/modelrunner.lock --lock b/modelrunner.lock --yes"
)
def prune(
    context: Context,
    dry_run: Annotated[bool, Option("--dry-run", help="Only show what would be removed.")] = False,
    keep_locked: Annotated[
        bool,
        Option(
            "--keep-locked",
            help="Also remove models that no lock file names; asks for confirmation.",
        ),
    ] = False,
    unpushed: Annotated[
        bool,
        Option(
            "--unpushed",
            help="With --keep-locked: also remove packaged, imported and loaded models that were"
            " never pushed.",
        ),
    ] = False,
    lock: Annotated[
        list[Path] | None,
        Option(
            metavar="FILE",
            help=f"Lock file to keep the models of; can be repeated (default: {LOCK_NAME} in the"
            " current directory).",
        ),
    ] = None,
    yes: Yes = False,
) -> None:
    """Remove incomplete downloads, unreferenced blobs and temporary files that no model needs."""
    for option, given in {"--lock": bool(lock), "--unpushed": unpushed}.items():
        if given and not keep_locked:
            raise UsageError(f"{option} needs --keep-locked", hint="add --keep-locked")
    # a lock that cannot be read ends this before anything has gone
    plan = _plan(context, lock or [Path(LOCK_NAME)], unpushed) if keep_locked else None
    if plan is not None and not dry_run:
        plan = _removed(context, plan, yes=yes)
    if dry_run or not context.store.layout.exists():
        gone = leftovers(context.store, partials=True)
    else:
        gone = sweep(context.store, partials=True)
    _show(context, plan, gone, dry_run=dry_run)


def _plan(context: Context, locks: Sequence[Path], unpushed: bool) -> "RemovalPlan":
    from modelrunner.operations.lock.prune import unlocked

    keep = {model.manifest.digest for path in locks for model in require_lock(path).models}
    return unlocked(context.store, keep, unpushed=unpushed)


def _removed(context: Context, plan: "RemovalPlan", *, yes: bool) -> "RemovalPlan":
    from modelrunner.operations.lock.prune import carry_out

    if plan.models:
        action = f"remove {counted(len(plan.models), 'model')} ({format_size(plan.freed)})"
        lines = [_line(entry) for entry in plan.models]
        hint = ", or see what would be removed with --dry-run"
        confirm(context, action, lines, yes=yes, hint=hint)
    return carry_out(context.store, plan)


def _show(
    context: Context, plan: "RemovalPlan | None", gone: Sequence[Leftover], *, dry_run: bool
) -> None:
    models = () if plan is None else plan.models
    kept = () if plan is None else plan.unpushed
    freed = sum(entry.freed for entry in models) + sum(entry.size for entry in gone)
    if context.console.json:
        items = [
            *(_model_to_dict(context, entry) for entry in models),
            *(
                {"kind": entry.kind, "path": str(entry.path), "size_bytes": entry.size}
                for entry in gone
            ),
        ]
        value: dict[str, object] = {"dry_run": dry_run, "freed_bytes": freed, "items": items}
        value["unpushed"] = [
            {"digest": str(model.digest), "references": [str(name) for name in model.references]}
            for model in kept
        ]
        context.console.emit(value)
        return
    for model in models:
        context.console.print(_line(model))
    for entry in gone:
        context.console.print(f"{entry.kind}  {format_size(entry.size)}  {entry.path.name}")
    for unpushed in kept:
        names = ", ".join(name.short for name in unpushed.references) or unpushed.digest.short
        context.console.say(
            f"kept {names}: not known to be in any registry (--unpushed removes it)"
        )
    verb = "would be freed" if dry_run else "freed"
    context.console.say(f"{format_size(freed)} {verb}")


def _line(entry: "Unlocked") -> str:
    return f"model  {format_size(entry.freed)}  {entry.title}"


def _model_to_dict(context: Context, entry: "Unlocked") -> dict[str, object]:
    return {
        "kind": "model",
        "path": str(context.store.blobs.path(entry.model.digest)),
        "size_bytes": entry.freed,
        "digest": str(entry.model.digest),
        "references": [str(name) for name in entry.model.references],
    }
