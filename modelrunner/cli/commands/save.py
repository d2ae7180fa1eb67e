"""`modelrunner save`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import CopiedReferrers, LockedFile
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.progress.select import progress
from modelrunner.errors import UsageError
from modelrunner.lockfile.project import Project
from modelrunner.oci.image import Platform
from modelrunner.oci.referrers import parse_choice
from modelrunner.operations.archive.chosen import choose_locked
from modelrunner.operations.archive.output import to_files, to_stream
from modelrunner.operations.archive.save import Archive, Chosen, Saved, choose
from modelrunner.operations.runtimes.named import find_image
from modelrunner.runtime.images.library import Library
from modelrunner.units import SIZE_HINT, format_size, parse_size

_LEAST_PART = 64 * 1024
_LATEST = 8**11 - 1


@command(
    examples="  modelrunner save ai/smollm2 ai/granite-4.0-micro -o models.tar\n"
    "  modelrunner save ai/smollm2 -o models.tar --split 4GB\n"
    "  modelrunner save --locked -o project.tar\n"
    "  modelrunner save runtime:vulkan@b11434 -o runtime.tar\n"
    "  modelrunner save ai/smollm2 -o - | ssh HOST modelrunner load -"
)
def save(
    context: Context,
    references: Annotated[
        list[str] | None,
        Argument(
            metavar="[REF...]",
            help="Names or IDs of local models; runtimes as runtime:NAME or by their image.",
        ),
    ] = None,
    *,
    output: Annotated[
        str,
        Option("--output", "-o", metavar="FILE", help="File to write; - is stdout."),
    ],
    locked: Annotated[
        bool,
        Option(
            "--locked",
            help="Save what modelrunner.lock pins: its models, and its runtime for this platform.",
        ),
    ] = False,
    file: LockedFile = None,
    split: Annotated[
        str | None,
        Option(
            metavar="SIZE",
            help="Split the archive into FILE.000, FILE.001, ... of at most this size.",
        ),
    ] = None,
    referrers: CopiedReferrers = "all",
) -> None:
    """Save models and runtimes to one archive, for machines without a network.

    The archive is a tar of an OCI image layout; the same models give the same bytes. An existing
    file is replaced once the new one is complete.
    """
    part_bytes = _part_bytes(split)
    choice = parse_choice(referrers)
    chosen = _chosen(context, references or [], file, locked=locked)
    mtime = _mtime(context.environ.get("SOURCE_DATE_EPOCH", ""))
    archive = Archive(context.store, chosen, mtime=mtime, referrers=choice)
    if output == "-":
        _to_stdout(context, archive, part_bytes)
        return
    path = Path(output)
    if not path.parent.is_dir():
        raise UsageError(
            f"{path.parent}: directory not found", hint="create it first, or write to another one"
        )
    if not path.exists() or path.is_file():
        archive.check_room(path.parent)
    with progress(context.console, verb="saving") as listener, to_files(path, part_bytes) as out:
        saved = archive.write(out, listener)
    _report(context, saved, out.paths or (path,))


def _chosen(
    context: Context, references: Sequence[str], file: Path | None, *, locked: bool
) -> list[Chosen]:
    """Return what to save.

    Raises:
        UsageError: Nothing is named, or --file without --locked.
        NotInStoreError: The lock pins what is not in the local store.
    """
    if file is not None and not locked:
        raise UsageError("--file needs --locked", hint="add --locked")
    if not (references or locked):
        raise UsageError(
            "no model given",
            hint="name a model, or use --locked for the models of modelrunner.lock",
        )
    found = []
    if locked:
        platform = Platform.of_machine()
        project = Project.at(file)
        found = choose_locked(context.store, project, platform, context.console.warn)
    library = Library(context.settings.runtimes)
    for text in references:
        image = find_image(context.store, library, text)
        found.append(
            choose(context.store, text) if image is None else Chosen(image, image.references)
        )
    return found


def _to_stdout(context: Context, archive: Archive, part_bytes: int | None) -> None:
    if part_bytes is not None:
        raise UsageError("--split cannot write to stdout", hint="name a file with -o FILE")
    if sys.stdout.isatty():
        raise UsageError(
            "refusing to write an archive to a terminal",
            hint="use -o FILE, or redirect stdout to a file",
        )
    with progress(context.console, verb="saving") as listener, to_stream(sys.stdout.buffer) as out:
        archive.write(out, listener)


def _report(context: Context, saved: Saved, paths: tuple[Path, ...]) -> None:
    if context.console.json:
        context.console.emit(
            {
                "paths": [str(path.absolute()) for path in paths],
                "references": [str(name) for name in saved.references],
                "size_bytes": saved.size,
                "sha256": saved.sha256,
            }
        )
        return
    names = ", ".join(name.short for name in saved.references)
    last = f" to {paths[-1].name}" if len(paths) > 1 else ""
    context.console.print(f"{paths[0]}{last}: {names} ({format_size(saved.size)})")


def _part_bytes(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        size = parse_size(text)
    except ValueError as exc:
        raise UsageError(f"--split: {exc}", hint=SIZE_HINT) from exc
    if size < _LEAST_PART:
        raise UsageError(
            f"--split must be at least {format_size(_LEAST_PART)}, got {text[:40]}",
            hint="--split 4GB suits most file systems",
        )
    return size


def _mtime(epoch: str) -> int:
    """Return the time of all files in the archive: 1970, or SOURCE_DATE_EPOCH."""
    if not epoch:
        return 0
    if not (epoch.isascii() and epoch.isdigit() and int(epoch) <= _LATEST):
        raise UsageError(
            f"invalid SOURCE_DATE_EPOCH {epoch[:40]!r}",
            hint="set it to seconds since 1970, as in `git log -1 --format=%ct`, or unset it",
        )
    return int(epoch)
