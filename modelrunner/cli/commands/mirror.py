"""`modelrunner mirror`."""

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import CaFile, CopiedBlobs, CopiedReferrers, LimitRate, Timeout
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.progress.select import progress
from modelrunner.cli.steps.network import bytes_per_second, limited_workspace
from modelrunner.cli.views.copy import finish, show_each, show_settings, sum_up
from modelrunner.errors import UsageError
from modelrunner.events import ignore
from modelrunner.lockfile.project import LOCK_NAME
from modelrunner.oci.reference import Reference
from modelrunner.operations.copy.mirror import (
    MirrorPlace,
    mirror_settings,
    parse_place,
    parse_start,
)
from modelrunner.operations.copy.wanted import parse_wanted, read_wanted
from modelrunner.transfer.limits import Limits

_MOST_STDIN = 8 * 1024 * 1024 + 1


class Action(StrEnum):
    """What to do with a mirror."""

    SYNC = "sync"


@command(
    examples="  modelrunner mirror sync --to registry.example.com\n"
    "  modelrunner mirror sync models.txt --to registry.example.com/mirror --dry-run\n"
    "  modelrunner mirror sync --to archive:models.tar\n"
    "  modelrunner mirror sync --from archive:models.tar --to registry.example.com\n"
    "  echo ai/smollm2:135M | modelrunner mirror sync - --to registry.example.com --json\n"
    "  MODELRUNNER_MIRRORS=docker.io=https://registry.example.com modelrunner pull ai/smollm2:135M"
)
def mirror(
    context: Context,
    action: Annotated[
        Action, Argument(metavar="ACTION", help="sync: copy what the mirror does not have.")
    ],
    file: Annotated[
        str | None,
        Argument(
            metavar="[FILE]",
            help="modelrunner.lock, modelrunner.toml, or a list with one reference per line; - is"
            f" stdin (default: {LOCK_NAME} in the current directory).",
        ),
    ] = None,
    *,
    to: Annotated[
        str,
        Option(
            "--to",
            metavar="HOST[/PREFIX]",
            help="Registry that is to have the models; or archive:FILE, or dir:DIRECTORY.",
        ),
    ],
    source: Annotated[
        str | None,
        Option(
            "--from",
            metavar="ARCHIVE",
            help="archive:FILE or dir:DIRECTORY that has the models (default: their registries);"
            " without FILE, all that it has.",
        ),
    ] = None,
    scoped: Annotated[
        bool,
        Option("--scoped", help="Put the registry of each model before its repository, too."),
    ] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show what would be copied; copy nothing.")
    ] = False,
    referrers: CopiedReferrers = "all",
    connections: CopiedBlobs = None,
    limit_rate: LimitRate = None,
    timeout: Timeout = None,
    ca_file: CaFile = None,
) -> None:
    """Copy all models of a lock or a list to a registry, which is a mirror for pulls then.

    What the registry has is skipped, so the same command resumes. A failure does not end it: the
    exit code is that of the worst one.
    """
    place = parse_place(to, scoped=scoped)
    start = None if source is None else parse_start(source)
    wanted = () if file is None and start is not None else _wanted(file)
    if start is None or isinstance(place, MirrorPlace):
        context.require_network(f"mirror {action}")
    limits = Limits(connections, bytes_per_second(limit_rate))
    context = context.over(limited_workspace(context, timeout, ca_file))
    archive = None if start is None else context.workspace.copying(ignore).read_archive(start)
    if archive is not None and not wanted:
        wanted = archive.references
    with progress(context.console, verb="copying", models=len(wanted)) as listener:
        copying = context.workspace.copying(listener, limits, referrers)
        with copying.mirror(place, archive, dry_run=dry_run) as syncing:
            outcomes = show_each(context, syncing.sync(wanted, dry_run=dry_run))
    settings: Mapping[str, str] = {}
    if isinstance(place, MirrorPlace):
        scheme = context.registries.endpoint_of(place.registry).protocol
        settings = mirror_settings(place, scheme, wanted)
    sum_up(context, outcomes)
    finish(context, outcomes, mirrors=settings)
    show_settings(context, settings)


def _wanted(file: str | None) -> Sequence[Reference]:
    if file != "-":
        return read_wanted(Path(file or LOCK_NAME))
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("no list on stdin", hint="name a file, or pipe a list into the command")
    return parse_wanted(sys.stdin.buffer.read(_MOST_STDIN), "stdin")
