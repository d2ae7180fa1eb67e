"""`modelrunner cache-key`."""

from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Option
from modelrunner.lockfile.project import LOCK_NAME
from modelrunner.lockfile.reader import require_lock


@command(examples="  modelrunner cache-key\n  modelrunner cache-key --per-blob")
def cache_key(
    context: Context,
    per_blob: Annotated[
        bool, Option("--per-blob", help="Print the digest of each blob, one per line.")
    ] = False,
    lock: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help=f"Lock file to read (default: {LOCK_NAME} in the current directory).",
        ),
    ] = None,
) -> None:
    """Print a CI cache key that changes exactly when the lock does."""
    found = require_lock(lock or Path(LOCK_NAME))
    blobs = found.blobs()
    if context.console.json:
        listed = [{"digest": str(blob.digest), "size_bytes": blob.size} for blob in blobs]
        context.console.emit({"key": found.cache_key(), "blobs": listed})
    elif per_blob:
        for blob in blobs:
            context.console.print(str(blob.digest))
    else:
        context.console.print(found.cache_key())
