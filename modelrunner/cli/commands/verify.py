"""`modelrunner verify`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.cli.progress.select import progress
from modelrunner.errors import CapacityError, ConfigError, CorruptStoreError
from modelrunner.events import Listener
from modelrunner.operations.verify import (
    Finding,
    Verification,
    quarantine,
    verify_models,
    verify_store,
)
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import counted, format_size


@command(examples="  modelrunner verify\n  modelrunner verify --deep ai/smollm2")
def verify(
    context: Context,
    references: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REF...]", help="Models to verify (default: all local models)."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read and hash every byte of the weights.")
    ] = False,
) -> None:
    """Verify that every blob of local models matches its digest.

    Damaged files are moved to `quarantine/` in the store; the next pull downloads them again.
    """
    store = context.store
    models = [store.resolve(text) for text in references] if references else store.models()
    with progress(context.console, verb="verifying") as listener:
        found = _look(store, models if references else None, listener, deep)
    for path in found.foreign:
        context.console.warn(f"{path} does not belong to the store")
    if found.bad:
        raise _error(found.bad, _quarantine(context, found.bad))
    total = sum(entry.size for entry in found.findings)
    if context.console.json:
        context.console.emit(
            {
                "models": len(models),
                "blobs": len(found.findings),
                "size_bytes": total,
                "deep": deep,
                "unneeded": [entry.digest for entry in found.findings if not entry.models],
                "foreign": [str(path) for path in found.foreign],
            }
        )
    else:
        context.console.print(
            f"verified {counted(len(found.findings), 'blob')} ({format_size(total)})"
        )


def _look(
    store: Store, models: Sequence[StoredModel] | None, listener: Listener, deep: bool
) -> Verification:
    if models is None:
        return verify_store(store, deep=deep, listener=listener)
    return Verification(verify_models(store, models, deep=deep, listener=listener))


def _quarantine(context: Context, bad: Sequence[Finding]) -> Sequence[Path]:
    try:
        moved = quarantine(context.store, bad)
    except (ConfigError, CapacityError) as exc:
        context.console.warn(f"cannot move damaged files away: {exc.message}")
        return ()
    for path in moved:
        context.console.say(f"moved a damaged file to {path}")
    return moved


def _error(bad: Sequence[Finding], moved: Sequence[Path]) -> CorruptStoreError:
    first = bad[0]
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    models = list(dict.fromkeys(name for entry in bad for name in entry.models))
    owner = f"{', '.join(first.models)}: " if first.models else ""
    names = " ".join(models)
    what = (
        f"the blob {first.digest} is {first.state}"
        if first.path is None
        else f"{first.path} is not a copy of the blob {first.digest}"
    )
    return CorruptStoreError(
        f"{owner}{what}{more}",
        hint=f"run `modelrunner pull {names}`: it downloads only the damaged files"
        if models
        else "no model needs it: `modelrunner prune` removes what was moved",
        blobs=[f"{entry.digest} {entry.state}" for entry in bad],
        digest=first.digest,
        models=models,
        quarantined=[str(path) for path in moved],
    )
