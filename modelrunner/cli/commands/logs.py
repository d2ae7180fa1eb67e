"""`modelrunner logs`."""

import time
from collections import deque
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from modelrunner.cli.context import Context, command
from modelrunner.disk.inside import open_inside
from modelrunner.errors import ModelNotFoundError
from modelrunner.oci.reference import Reference
from modelrunner.serve.process.control import states
from modelrunner.serve.process.records import model_logs, server_logs
from modelrunner.store.store import StoredModel
from modelrunner.text import sanitize

_TICK_S = 0.2
_CHUNK = 65536


@command(examples="  modelrunner logs\n  modelrunner logs ai/smollm2 -f\n  modelrunner logs -n 20")
def logs(
    context: Context,
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="[REF]",
            help="Model whose log to print (default: the log of the server itself).",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until Ctrl-C.")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option("--tail", "-n", min=0, metavar="N", help="Print only the last N lines."),
    ] = None,
) -> None:
    """Print the log of a server, or of the runtime of a model."""
    path = _log(context, reference)
    for line in _lines(path, count, follow=follow):
        shown = sanitize(line.decode(errors="replace")).rstrip("\n")
        if context.console.json:
            context.console.emit_line({"line": shown})
        else:
            context.console.print(shown)
        if follow:
            context.console.flush()


def _log(context: Context, reference: str | None) -> Path:
    """Return the log of a running server, or else of the last one.

    Raises:
        ModelNotFoundError: There is no log.
    """
    folder = context.settings.servers
    if reference is None:
        return _newest(server_logs(folder), "no server log found")
    names = _names(context, reference)
    running = [Path(state.log) for state in states(folder) if state.log and state.model in names]
    found = [path for path in running if path.exists()] or [
        path for name in names for path in model_logs(folder, name)
    ]
    return _newest(found, f"{reference[:200]}: no log found, the model has not been served")


def _names(context: Context, reference: str) -> set[str]:
    """Return the names under which a model may have been served."""
    model: StoredModel | None = context.store.lookup(reference)
    if model is None:
        return {Reference.parse(reference).short}
    return {name.short for name in model.references} | {model.digest.short}


def _newest(paths: list[Path], otherwise: str) -> Path:
    if not paths:
        raise ModelNotFoundError(
            otherwise, hint="`modelrunner ps` lists the models that are served"
        )
    return max(paths, key=lambda path: path.stat().st_mtime)


def _lines(path: Path, count: int | None, *, follow: bool) -> Iterator[bytes]:
    with BufferedReader(open_inside(path, "read")) as file:
        yield from file if count is None else deque(file, maxlen=count)
        if follow:
            yield from _coming(file, path)


def _coming(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield lines as they are written; a truncated log is followed from its beginning."""
    rest = b""
    while True:
        chunk = file.read(_CHUNK)
        if not chunk:
            time.sleep(_TICK_S)
            if _size(path) < file.tell():
                file.seek(0)
                rest = b""
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
