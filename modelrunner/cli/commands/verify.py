"""`modelrunner verify`."""

from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.errors import CorruptStoreError
from modelrunner.operations.verify import Finding, verify_models
from modelrunner.units import format_size


@command(examples="  modelrunner verify\n  modelrunner verify --deep ai/smollm2")
def verify(
    context: Context,
    references: Annotated[
        list[str] | None, typer.Argument(metavar="[REF...]", help="Default: every model.")
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read and hash every byte.")] = False,
) -> None:
    """Check that every blob of the models here is what its digest says."""
    store = context.store
    models = [store.resolve(text) for text in references] if references else store.models()
    findings = verify_models(store, models, deep=deep)
    bad = [entry for entry in findings if entry.state != "good"]
    if bad:
        raise _error(bad)
    total = sum(entry.size for entry in findings)
    if context.console.json:
        value = {"models": len(models), "blobs": len(findings), "size_bytes": total, "deep": deep}
        context.console.emit(value)
    else:
        context.console.print(f"{len(findings)} blobs, {format_size(total)}: all good")


def _error(bad: list[Finding]) -> CorruptStoreError:
    first = bad[0]
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return CorruptStoreError(
        f"{first.model}: the blob {first.digest} is {first.state}{more}",
        hint=f"run `modelrunner pull {first.model}`: only what is wrong is fetched",
        blobs=[f"{entry.digest} {entry.state}" for entry in bad],
        digest=first.digest,
    )
