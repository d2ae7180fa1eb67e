"""`modelrunner rm`."""

from collections.abc import Sequence
from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.operations.remove import Removed, plan_removal, remove
from modelrunner.store.store import Store
from modelrunner.units import format_size


@command(examples="  modelrunner rm ai/smollm2:135M-Q4_K_M\n  modelrunner rm 354bf30d0aa3")
def rm(
    context: Context,
    references: Annotated[list[str], typer.Argument(metavar="REF...")],
    force: Annotated[
        bool, typer.Option("--force", "-f", help="By ID: remove every name of the model.")
    ] = False,
) -> None:
    """Remove models; one name of several is only taken away."""
    results = _remove_all(context.store, references, force=force)
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


def _remove_all(store: Store, texts: Sequence[str], *, force: bool) -> list[Removed]:
    """Removes all or, where one of them is not there, none."""
    for text in texts:
        plan_removal(store, text, force=force)
    # planned anew: the one before may have been another name of the same model
    return [
        remove(store, plan_removal(store, text, force=force))
        for text in texts
        if store.lookup(text, exact=True) is not None
    ]
