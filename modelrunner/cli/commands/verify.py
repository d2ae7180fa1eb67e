"""`modelrunner verify`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.progress.select import progress
from modelrunner.errors import CapacityError, ConfigError, CorruptStoreError
from modelrunner.events import Listener
from modelrunner.oci.reference import Reference
from modelrunner.operations.runtimes.named import images_of, runtime_name
from modelrunner.operations.verify import (
    Finding,
    RuntimeFinding,
    Verification,
    images_by_name,
    quarantine,
    verify_models,
    verify_runtimes,
    verify_store,
)
from modelrunner.runtime.images.library import Installed, Library
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import counted, format_size

_MOST_FILES = 100


@command(
    examples="  modelrunner verify\n  modelrunner verify --deep ai/smollm2\n"
    "  modelrunner verify runtime:vulkan@b11434"
)
def verify(
    context: Context,
    references: Annotated[
        list[str] | None,
        Argument(
            metavar="[REF...]",
            help="Models to verify, and runtimes as runtime:NAME"
            " (default: everything in the local store, and every runtime).",
        ),
    ] = None,
    deep: Annotated[
        bool, Option("--deep", help="Read and hash every byte of the weights.")
    ] = False,
) -> None:
    """Verify that every blob of local models matches its digest, and the files of runtimes.

    Damaged files are moved to `quarantine/` in the store; the next pull downloads them again.
    """
    store, library = context.store, Library(context.settings.runtimes)
    parts = {text: runtime_name(store, text) for text in references or ()}
    names = [text for text, name in parts.items() if name is None]
    others = [name for name in parts.values() if name is not None]
    models = [store.resolve(text) for text in names] if references else store.models()
    runtimes = [library.require(text) for text in others] if references else library.all()
    images = images_of(store, library, others)
    with progress(context.console, verb="verifying") as listener:
        found = _look(store, [*models, *images] if references else None, listener, deep)
        unpacked = verify_runtimes(runtimes, deep=deep, listener=listener)
    for path in found.foreign:
        context.console.warn(f"{path} does not belong to the store")
    changed = [entry for entry in unpacked if entry.deviations]
    if found.bad:
        for entry in changed:
            context.console.warn(_changed(entry))
        raise _error(found, _quarantine(context, found.bad))
    if changed:
        raise _runtime_error(changed)
    total = sum(entry.size for entry in found.findings)
    if context.console.json:
        context.console.emit(
            {
                "models": len(models),
                "runtimes": len(runtimes),
                "blobs": len(found.findings),
                "size_bytes": total,
                "deep": deep,
                "unneeded": [entry.digest for entry in found.findings if not entry.models],
                "foreign": [str(path) for path in found.foreign],
            }
        )
    else:
        also = f", {counted(len(runtimes), 'runtime')}" if runtimes else ""
        context.console.print(
            f"verified {counted(len(found.findings), 'blob')} ({format_size(total)}){also}"
        )


def _look(
    store: Store, models: Sequence[StoredModel] | None, listener: Listener, deep: bool
) -> Verification:
    if models is None:
        return verify_store(store, deep=deep, listener=listener)
    found = verify_models(store, models, deep=deep, listener=listener)
    return Verification(found, images=images_by_name(store))


def _quarantine(context: Context, bad: Sequence[Finding]) -> Sequence[Path]:
    try:
        moved = quarantine(context.store, bad)
    except (ConfigError, CapacityError) as exc:
        context.console.warn(f"cannot move damaged files away: {exc.message}")
        return ()
    for path in moved:
        context.console.say(f"moved a damaged file to {path}")
    return moved


def _changed(found: RuntimeFinding) -> str:
    """Return which file of a runtime is not as it was."""
    more = len(found.deviations) - 1
    also = f" and {counted(more, 'other file')} as well" if more else ""
    return f"{found.runtime.name}: {found.deviations[0]}{also}"


def _runtime_error(changed: Sequence[RuntimeFinding]) -> CorruptStoreError:
    first = changed[0]
    more = f"; and {counted(len(changed) - 1, 'other runtime')}" if len(changed) > 1 else ""
    return CorruptStoreError(
        f"{_changed(first)}{more}",
        hint=f"run `modelrunner runtimes install {_exact(first.runtime)}`: it unpacks the image"
        " again",
        runtimes=[entry.runtime.name for entry in changed],
        files=[str(each) for entry in changed for each in entry.deviations][:_MOST_FILES],
    )


def _exact(one: Installed) -> str:
    """Return the reference by which this image is installed, and no newer one."""
    return str(Reference.parse(one.reference).with_digest(one.digest))


def _error(found: Verification, moved: Sequence[Path]) -> CorruptStoreError:
    bad = found.bad
    first = bad[0]
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    models = list(dict.fromkeys(name for entry in bad for name in entry.models))
    owner = f"{', '.join(first.models)}: " if first.models else ""
    if first.models and all(name in found.images for name in first.models):
        fetch = f"runtimes install {found.images[first.models[0]]}"
    else:
        fetch = f"pull {' '.join(name for name in models if name not in found.images)}"
    what = (
        f"the blob {first.digest} is {first.state}"
        if first.path is None
        else f"{first.path} is not a copy of the blob {first.digest}"
    )
    return CorruptStoreError(
        f"{owner}{what}{more}",
        hint=f"run `modelrunner {fetch}`: it downloads only the damaged files"
        if models
        else "no model needs it: `modelrunner prune` removes what was moved",
        blobs=[f"{entry.digest} {entry.state}" for entry in bad],
        digest=first.digest,
        models=models,
        quarantined=[str(path) for path in moved],
    )
