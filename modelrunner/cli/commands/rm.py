"""`modelrunner rm`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.confirm import Yes, confirm
from modelrunner.errors import UsageError
from modelrunner.units import counted, format_size

# late imports: a Tab needs none
if TYPE_CHECKING:
    from modelrunner.operations.remove import Removed
    from modelrunner.store.store import Store


@command(
    examples="  modelrunner rm ai/smollm2:135M-Q4_K_M\n  modelrunner rm 354bf30d0aa3\n"
    "  modelrunner rm --all"
)
def rm(
    context: Context,
    references: Annotated[
        list[str] | None, Argument(metavar="[REF...]", help="Names or IDs of local models.")
    ] = None,
    force: Annotated[
        bool, Option("--force", "-f", help="With an ID, remove all names of the model.")
    ] = False,
    all_models: Annotated[
        bool, Option("--all", help="Remove every local model; asks for confirmation.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Remove models. A model with several names loses only the name given."""
    if all_models and references:
        raise UsageError("--all and model names cannot be combined", hint="remove one of the two")
    if not all_models and not references:
        raise UsageError("no model given", hint="name a model, or use --all to remove all models")
    results = (
        _everything(context, yes=yes)
        if all_models
        else _remove_all(context.store, references or (), force=force)
    )
    if context.console.json:
        context.console.emit(
            [
                {
                    "untagged": [str(name) for name in result.plan.names],
                    "deleted": str(result.plan.model.digest) if result.plan.last else None,
                    "freed_bytes": result.freed,
                }
                for result in results
            ]
        )
        return
    for result in results:
        for name in result.plan.names:
            context.console.print(f"Untagged: {name.short}")
        if result.plan.last:
            freed = format_size(result.freed)
            context.console.print(f"Deleted: {result.plan.model.digest} ({freed} freed)")


def _everything(context: Context, *, yes: bool) -> "list[Removed]":
    # who removes one model does without
    from modelrunner.operations.lock.prune import carry_out, everything
    from modelrunner.operations.remove import RemovalPlan, Removed

    plan = everything(context.store)
    if not plan.models:
        context.console.say("no local models")
        return []
    lines = [
        f"{entry.title}  {format_size(entry.freed)}"
        + ("" if entry.model.published else "  (not known to be in any registry)")
        for entry in plan.models
    ]
    action = f"remove {counted(len(plan.models), 'model')} ({format_size(plan.freed)})"
    confirm(context, action, lines, yes=yes)
    return [
        Removed(RemovalPlan(entry.model, entry.model.references, last=True), entry.freed)
        for entry in carry_out(context.store, plan).models
    ]


def _remove_all(store: "Store", texts: Sequence[str], *, force: bool) -> "list[Removed]":
    """Remove all models given, or none if one of them is missing."""
    from modelrunner.operations.remove import plan_removal, remove

    for text in texts:
        plan_removal(store, text, force=force)
    # planned anew: the one before may have been another name of the same model
    return [
        remove(store, plan_removal(store, text, force=force))
        for text in texts
        if store.lookup(text, exact=True) is not None
    ]
