"""`modelrunner logs`."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.disk.inside import open_inside
from modelrunner.errors import ModelNotFoundError
from modelrunner.oci.reference import Reference
from modelrunner.serve.observability.request_log import before, request_logs, request_text
from modelrunner.serve.process.control import states
from modelrunner.serve.process.records import model_logs, server_logs
from modelrunner.store.store import StoredModel
from modelrunner.text import sanitize
from modelrunner.wire import parse_object

_TICK_S = 0.2
_CHUNK = 65536


@command(
    examples="  modelrunner logs\n  modelrunner logs ai/smollm2 -f\n  modelrunner logs -n 20\n"
    "  modelrunner logs --requests --json | jq .first_token_s"
)
def logs(
    context: Context,
    reference: Annotated[
        str | None,
        Argument(
            metavar="[REF]",
            help="Model whose log to print (default: the log of the server itself).",
        ),
    ] = None,
    follow: Annotated[bool, Option("--follow", "-f", help="Follow the log until Ctrl-C.")] = False,
    count: Annotated[
        int | None,
        Option("--tail", "-n", min=0, metavar="N", help="Print only the last N lines."),
    ] = None,
    requests: Annotated[
        bool,
        Option(
            "--requests",
            help="Print what was requested, of all models or of one: status, times, tokens.",
        ),
    ] = False,
) -> None:
    """Print the log of a server, of the runtime of a model, or of requests."""
    if requests:
        _print_requests(context, reference, count, follow=follow)
        return
    path = _log(context, reference)
    for line in _lines(path, count, follow=follow):
        shown = sanitize(line.decode(errors="replace")).rstrip("\n")
        if context.console.json:
            context.console.emit_line({"line": shown})
        else:
            context.console.print(shown)
        if follow:
            context.console.flush()


def _print_requests(
    context: Context, reference: str | None, count: int | None, *, follow: bool
) -> None:
    """Print the requests of a running server, or else of the last one."""
    path = _newest(request_logs(context.settings.servers), "no requests found")
    names = None if reference is None else _names(context, reference)

    def wanted(lines: Iterator[bytes]) -> Iterator[Mapping[str, Any]]:
        for line in lines:
            entry = _entry(line)
            if entry is not None and (names is None or entry.get("model") in names):
                yield entry

    with BufferedReader(open_inside(path, "read")) as file:
        entries = wanted(chain(_earlier(before(path)), file))
        _emit(context, entries if count is None else deque(entries, maxlen=count))
        if follow:
            context.console.flush()
            for entry in wanted(_coming(file, path)):
                _emit(context, [entry])
                context.console.flush()


def _earlier(path: Path) -> Iterator[bytes]:
    try:
        file = open_inside(path, "read")
    except FileNotFoundError:
        return
    with BufferedReader(file) as lines:
        yield from lines


def _entry(line: bytes) -> Mapping[str, Any] | None:
    """Return a request; None for a line that a full disk has cut."""
    try:
        return parse_object(line)
    except ValueError:
        return None


def _emit(context: Context, entries: Iterable[Mapping[str, Any]]) -> None:
    for entry in entries:
        if context.console.json:
            context.console.emit_line(entry)
        else:
            context.console.print(sanitize(request_text(entry)))


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


def _coming(file: "BufferedReader[Any]", path: Path) -> Iterator[bytes]:
    """Yield lines as they are written; a log that is replaced is followed from its beginning."""
    yield from _until_replaced(file, path)
    while True:
        try:
            raw = open_inside(path, "read")
        except FileNotFoundError:
            time.sleep(_TICK_S)
            continue
        with BufferedReader(raw) as newer:
            yield from _until_replaced(newer, path)


def _until_replaced(file: "BufferedReader[Any]", path: Path) -> Iterator[bytes]:
    rest = b""
    while True:
        chunk = file.read(_CHUNK)
        if chunk:
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            continue
        time.sleep(_TICK_S)
        found = _status(path)
        if found is None:
            continue
        if not os.path.samestat(found, os.fstat(file.fileno())):
            # what was written before it was replaced comes first
            if not file.peek(1):
                return
        elif found.st_size < file.tell():
            file.seek(0)
            rest = b""


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
