"""How a command line is run, and the one boundary where errors become exit codes.

Every error that this program raises on purpose is a `ModelRunnerError`: shown as two lines, or as
JSON, with its exit code. What a file system says where nobody expected it has words too; anything
else is a bug and looks like one.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` makes slow enumerations of
import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import TextIO

from modelrunner.cli.context import (
    GITHUB,
    CommandEnd,
    GlobalOptions,
    Invocation,
    console_for,
    perform,
    root_options,
    shared_options,
    show_version,
)
from modelrunner.cli.late import STANDARD, load_late
from modelrunner.cli.parser.command_table import COMPLETING, load
from modelrunner.cli.parser.declared import parameters_of
from modelrunner.cli.parser.quick import parse
from modelrunner.errors import CanceledByUserError, ExitStatus, ModelRunnerError

_SIGNALLED = 128
"""Exit codes above it name a signal."""


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
    finally:
        _let_go(sys.stdout)
    return int(status or 0)


def _of_disk(error: OSError) -> ModelRunnerError | None:
    """Return the error for an unexpected file system fault; None for other errors."""
    # only what fails pays for it
    from pathlib import Path

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
        status = _status(arguments, said)
    except KeyboardInterrupt:
        status = ExitStatus.INTERRUPTED
    except SystemExit as exc:
        if isinstance(exc.code, int) and exc.code > _SIGNALLED:
            _show_interruption(fallback, said)
        raise
    if status == ExitStatus.INTERRUPTED:
        _show_interruption(fallback, said)
    return status


def _status(arguments: Sequence[str], said: Invocation) -> int:
    """Run one command and return its exit code."""
    try:
        shell = _asking_shell()
        done = _run_quickly(arguments, said) if shell is None else _complete_quickly(shell)
        if not done:
            # loaded only for what is not usual: it takes longer than most commands
            from modelrunner.cli.by_typer import run

            return run(arguments, said)
    except CommandEnd as end:
        return end.code
    except BrokenPipeError:
        # nobody reads on, as with `| head`
        pass
    except EOFError:
        # Ctrl-D leaves the cursor behind a question
        console_for(said.options).note("")
        return ExitStatus.INTERRUPTED
    return ExitStatus.OK


def _asking_shell() -> str | None:
    if COMPLETING not in os.environ:
        return None
    # a usual start has nothing to complete
    from modelrunner.cli.parser.completion import asking_shell

    return asking_shell(os.environ)


def _complete_quickly(shell: str) -> bool:
    """Print the candidates at the cursor; return False for what Typer has to say."""
    # a usual start has nothing to complete
    from modelrunner.cli.parser.quick_completion import complete_quickly

    load_late(*STANDARD)
    return complete_quickly(shell, os.environ, parameters_of(shared_options))


def _run_quickly(arguments: Sequence[str], said: Invocation) -> bool:
    """Run a usual command line; return False, with nothing done, for what Typer has to parse."""
    if list(arguments) in ([], ["-h"], ["--help"]):
        return _overview()
    at = next((at for at, word in enumerate(arguments) if word[:1] != "-"), len(arguments))
    before, words = arguments[:at], arguments[at:]
    root = parse(parameters_of(root_options), before)
    if root is None:
        return False
    options, version = root_options(**root)
    if version and not words:
        show_version(options)
        return True
    load_late(*STANDARD)
    command = load(words[0]) if words and not version else None
    if command is None:
        return False
    shared = parameters_of(shared_options)
    values = parse([*command.parameters(), *shared], words[1:], command.rest)
    if values is None:
        return False
    said.add(options)
    said.add(GlobalOptions(github=bool(values.pop(GITHUB, False))))
    perform(command, said, values)
    return True


def _overview() -> bool:
    """Print the help of the program; return False where the terminal is too narrow for it."""
    # few command lines ask for it
    from modelrunner.cli.parser.overview import COLUMNS, overview

    columns = _columns() or COLUMNS
    if columns < COLUMNS:
        return False
    # help that cannot be written is not an error
    with suppress(OSError):
        # own text: names and help of our commands
        sys.stdout.write(overview(parameters_of(root_options), columns))
        sys.stdout.flush()
    return True


def _columns() -> int:
    """Return the columns of the terminal, as the parser finds them; 0 without a terminal."""
    with suppress(KeyError, ValueError):
        if (columns := int(os.environ["COLUMNS"])) > 0:
            return columns
    with suppress(AttributeError, ValueError, OSError):
        return os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
    return 0


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


def _end_on_signals() -> None:
    """End the program at SIGTERM and SIGHUP as at Ctrl-C: with cleanup."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(_signal, name, None)
        if number is not None and _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(_SIGNALLED + number)


def _open_streams() -> None:
    """Replace streams that a shell closed with `>&-` by ones that discard."""
    if sys.stdout is None:
        # outside: a device
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - to the end
    if sys.stderr is None:
        # outside: a device
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - to the end
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


def _let_go(stream: TextIO) -> None:
    """Flush a stream, or discard its buffer: the interpreter would fail, and exit with 120."""
    try:
        stream.flush()
    except OSError:
        _lead_nowhere(stream)
