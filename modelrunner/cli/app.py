"""The command table, and the one boundary where errors become exit codes.

Every error that this program raises on purpose is a `ModelRunnerError`: shown as two lines, or as
JSON, with its exit code. What a file system says where nobody expected it has words too; anything
else is a bug and looks like one.
"""

import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, TextIO

import typer

from modelrunner.cli.context import (
    Debug,
    GlobalOptions,
    Invocation,
    Offline,
    Plain,
    Progress,
    Quiet,
    console_for,
    shared_options,
)
from modelrunner.cli.parser.command_table import ALIASES, COMMANDS, CommandTable
from modelrunner.cli.parser.usage import hint_of, message_of
from modelrunner.errors import CanceledByUserError, ExitStatus, ModelRunnerError, UsageError
from modelrunner.version import __version__

# typer vendors click and exports few of its exceptions; this one is the root of usage errors
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
_SIGNALLED = 128
"""Exit codes above it name a signal."""

_HELP = """Pull language models as OCI artifacts, check whether they fit, and run them.

No daemon, no Docker needed."""

app = typer.Typer(
    name="modelrunner",
    cls=CommandTable,
    help=_HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    invoke_without_command=True,
    # `completion SHELL` prints scripts that know where a name has colons
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(epilog="Run `modelrunner help COMMAND` for a command's options and examples.")
def root(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False,
    quiet: Quiet = False,
    progress: Progress = None,
    plain: Plain = False,
    offline: Offline = False,
    debug: Debug = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False,
) -> None:
    """Handle options before the name of a command."""
    said = shared_options(json, quiet, progress, plain, offline, debug)
    ctx.ensure_object(Invocation).add(said)
    if version:
        if json:
            console_for(said).emit({"version": __version__})
        else:
            typer.echo(f"modelrunner {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_streams()
    _end_on_signals()
    warnings.showwarning = _show_warning
    # as far as it is known before the arguments are understood
    fallback = GlobalOptions(
        json="--json" in arguments, plain="--plain" in arguments, debug="--debug" in arguments
    )
    said = Invocation()
    try:
        status = _run(arguments, fallback, said)
    except (ModelRunnerError, OSError) as exc:
        error = exc if isinstance(exc, ModelRunnerError) else _of_disk(exc)
        if error is None:
            raise
        if fallback.debug:
            import traceback

            traceback.print_exc()
        _show_error(error, fallback, said)
        status = error.exit_code
    except _USAGE_ERROR as exc:
        status = _usage(exc, arguments, fallback, said)
    finally:
        _let_go(sys.stdout)
    return int(status or 0)


def _of_disk(error: OSError) -> ModelRunnerError | None:
    """Return the error for an unexpected file system fault; None for other errors."""
    # only what fails pays for it
    from modelrunner.disk.files import disk_error, is_of_disk

    return disk_error(error, Path.cwd()) if is_of_disk(error) else None


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print the program's warnings in one line each, and those of libraries unchanged."""
    if category.__module__.partition(".")[0] == "modelrunner":
        console_for(GlobalOptions(json="--json" in sys.argv)).warn(str(message))
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        (sys.stderr if file is None else file).write(text)


def _run(arguments: Sequence[str], fallback: GlobalOptions, said: Invocation) -> int:
    """Run one command; with --json, report a signal that ends it."""
    try:
        status = typer.main.get_command(app).main(
            arguments, prog_name="modelrunner", standalone_mode=False, obj=said
        )
    except (KeyboardInterrupt, typer.Abort):
        status = ExitStatus.INTERRUPTED
    except SystemExit as exc:
        if isinstance(exc.code, int) and exc.code > _SIGNALLED:
            _show_interruption(fallback, said)
        raise
    except OSError as exc:
        if not _is_of_help(exc):
            raise
        # help that nobody can take: what a command prints fails in words of its own
        return ExitStatus.OK
    if status == ExitStatus.INTERRUPTED:
        _show_interruption(fallback, said)
    return int(status or 0)


def _show_error(error: ModelRunnerError, fallback: GlobalOptions, said: Invocation) -> None:
    """Print an error, with --github as an annotation too."""
    console_for(fallback).error(error)
    if said.options.github:
        # only what fails in a workflow pays for it
        from modelrunner.cli.github import annotations

        for line in annotations(error, os.environ):
            console_for(fallback).note(line)


def _show_interruption(fallback: GlobalOptions, said: Invocation) -> None:
    """Report in JSON, with --json, that a signal ended the command."""
    if fallback.json:
        console_for(fallback).error(said.interruption or CanceledByUserError("interrupted"))


def _usage(
    error: BaseException, arguments: Sequence[str], fallback: GlobalOptions, said: Invocation
) -> ExitStatus:
    context = getattr(error, "ctx", None)
    message = str(getattr(error, "format_message", lambda: str(error))())
    if type(error).__name__ == "NoArgsIsHelpError":
        console_for(fallback).print(message)
        return ExitStatus.OK
    option = str(getattr(error, "option_name", "") or "")
    possible = getattr(error, "possibilities", None) or ()
    # of some mistakes the parser does not say in which command they are
    names = [word for word in arguments if word in COMMANDS or word in ALIASES][:1]
    command = context.command_path if context else " ".join(["modelrunner", *names])
    explained = UsageError(
        message_of(message if not option or not possible else str(getattr(error, "message", ""))),
        hint=hint_of(message, command, option, possible),
    )
    _show_error(explained, fallback, said)
    return ExitStatus.USAGE


def _end_on_signals() -> None:
    """End the program at SIGTERM and SIGHUP as at Ctrl-C: with cleanup."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(_SIGNALLED + number)


def _open_streams() -> None:
    """Replace streams that a shell closed with `>&-` by ones that discard."""
    if sys.stdout is None:
        # outside: a device
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
    if sys.stderr is None:
        # outside: a device
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
    elif sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        encoding, errors = sys.stderr.encoding, sys.stderr.errors
        lenient = _Lenient(sys.stderr.detach(), encoding, errors, line_buffering=True)
        sys.stderr = sys.__stderr__ = lenient  # type: ignore[misc]


class _Lenient(io.TextIOWrapper):
    """A stderr whose write errors end the messages, and not the command."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            _lead_nowhere(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _lead_nowhere(self)


def _lead_nowhere(stream: TextIO) -> None:
    # outside: a device
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _is_of_help(error: OSError) -> bool:
    """Whether the parser's own printing has failed."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_code.co_name == "echo"


def _let_go(stream: TextIO) -> None:
    """Flush a stream, or discard its buffer: the interpreter would fail, and exit with 120."""
    try:
        stream.flush()
    except OSError:
        _lead_nowhere(stream)
