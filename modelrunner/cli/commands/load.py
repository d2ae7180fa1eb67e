"""`modelrunner load`."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.progress.select import progress
from modelrunner.errors import IntegrityError, UsageError
from modelrunner.events import Planned
from modelrunner.oci.reference import Reference
from modelrunner.oci.tar import Readable
from modelrunner.operations.archive.directory import is_layout, open_layout
from modelrunner.operations.archive.index import repository_for
from modelrunner.operations.archive.load import Loaded, Loader
from modelrunner.operations.archive.source import find_parts, named, open_parts, plain
from modelrunner.units import format_size

if TYPE_CHECKING:
    from io import BufferedReader


@command(
    examples="  modelrunner load models.tar\n"
    "  modelrunner load models.tar.000\n"
    "  modelrunner load box.tar --name ai/my-granite:3B"
)
def load(
    context: Context,
    files: Annotated[
        list[str],
        Argument(
            metavar="FILE...",
            help="Archive, its parts, or an OCI layout directory; - is stdin.",
        ),
    ],
    name: Annotated[
        str | None,
        Option(
            metavar="REF",
            help="Name for the model if the archive has only one, or a repository for several"
            " tags.",
        ),
    ] = None,
) -> None:
    """Load models and runtimes from an archive or an OCI layout directory, verified like a pull.

    A short name in an archive, such as a bare tag, becomes local/ARCHIVE:NAME, or REF:NAME with
    --name REF. If anything is wrong with the archive, no model is added.
    """
    wanted = None if name is None else Reference.parse(name)
    with progress(context.console, verb="loading") as listener, _opened(files) as (stream, size):
        if size is not None:
            listener(Planned(files[0], size, 0, 0))
        workspace = context.workspace
        loader = Loader(
            context.store,
            listener,
            name=wanted,
            short=repository_for(files[0]),
            check=workspace.check_carried if workspace.guarded else None,
        )
        loaded = loader.load(stream)
    if context.console.json:
        context.console.emit([_to_dict(one) for one in loaded])
        return
    for one in loaded:
        said = "loaded" if one.is_new else "up to date"
        for reference in one.names:
            digest, total = one.model.digest.short, format_size(one.model.size)
            context.console.print(f"{reference.short}: {said} ({digest}, {total})")
        if one.model.is_image:
            name = one.names[0].short
            context.console.say(
                f"hint: `modelrunner runtimes install {name} --offline` installs it"
            )


def _to_dict(one: Loaded) -> dict[str, object]:
    return {
        "references": [str(name) for name in one.names],
        "digest": str(one.model.digest),
        "status": "loaded" if one.is_new else "up-to-date",
        "path": None if one.model.is_image else str(one.model.weights()),
        "size_bytes": one.model.size,
        **({"referrers": one.referrers} if one.referrers else {}),
        **({"kind": "runtime"} if one.model.is_image else {}),
    }


@contextmanager
def _opened(files: Sequence[str]) -> Iterator[tuple[Readable, int | None]]:
    if list(files) == ["-"]:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "refusing to read an archive from a terminal",
                hint="name a file, or redirect stdin: `modelrunner load - < models.tar`",
            )
        try:
            yield plain(cast("BufferedReader[Any]", sys.stdin.buffer)), None
        except IntegrityError as exc:
            raise exc.about("stdin") from exc
        return
    if len(files) == 1 and is_layout(Path(files[0])):
        with open_layout(Path(files[0])) as found:
            yield found
        return
    paths = find_parts([Path(text) for text in files])
    try:
        with open_parts(paths) as stream:
            yield stream, sum(path.stat().st_size for path in paths) or None
    except IntegrityError as exc:
        raise named(exc, paths) from exc
