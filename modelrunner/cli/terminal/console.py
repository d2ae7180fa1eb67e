"""Output: results on stdout, messages on stderr, with their form and colors.

A pipe gets no color, no carriage return and no bar. Text of other people is sanitized before or in
this module.
"""

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

from modelrunner.errors import DiskFullError, ModelRunnerError
from modelrunner.text import escape_unsafe, os_reason, sanitize, sanitize_line

# late imports: every start loads this, and few draw a line or a table
if TYPE_CHECKING:
    from modelrunner.cli.terminal.status_line import StatusLine

_FULL = {errno.ENOSPC, errno.EDQUOT}


class ProgressMode(StrEnum):
    """Styles of progress."""

    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


class Console:
    """The output of commands.

    Attributes:
        out: The stream of results.
        err: The stream of everything else.
        json: Whether results and errors are JSON.
        quiet: Whether messages are suppressed.
        progress: The style of progress.
        colour: Whether `err` gets colors.
        terminal: Whether `err` is a terminal that can redraw a line.
        bars: Whether it redraws a line by default.
        plain: Whether nothing moves the cursor, on both streams.
        columns: The width of the terminal that results go to; None for no terminal.
    """

    def __init__(  # noqa: PLR0913 - all that counts of a terminal
        self,
        out: TextIO,
        err: TextIO,
        *,
        json: bool = False,
        quiet: bool = False,
        progress: ProgressMode = ProgressMode.AUTO,
        colour: bool = False,
        terminal: bool = False,
        bars: bool = False,
        plain: bool = False,
        columns: int | None = None,
    ) -> None:
        self.out = out
        self.err = err
        self.json = json
        self.quiet = quiet
        self.progress = progress
        self.colour = colour
        self.terminal = terminal
        self.bars = bars
        self.plain = plain
        self.columns = columns

    @cached_property
    def line(self) -> "StatusLine":
        """The line that is redrawn on `err`, if that is a terminal."""
        from modelrunner.cli.terminal.status_line import StatusLine

        return StatusLine(self.err)

    @classmethod
    def on_terminal(
        cls,
        environ: Mapping[str, str],
        *,
        json_output: bool,
        quiet: bool,
        progress: ProgressMode,
        plain: bool = False,
    ) -> "Console":
        """Return the console of this process; with `TERM=dumb` it is plain."""
        _never_fail_to_print(sys.stdout)
        _never_fail_to_print(sys.stderr)
        plain = plain or environ.get("TERM") == "dumb"
        terminal = sys.stderr.isatty() and not plain
        in_ci = environ.get("CI", "").lower() not in ("", "0", "false")
        return cls(
            sys.stdout,
            sys.stderr,
            json=json_output,
            quiet=quiet,
            progress=progress,
            colour=terminal and not in_ci and not environ.get("NO_COLOR"),
            terminal=terminal,
            bars=terminal and not in_ci,
            plain=plain,
            columns=_columns(sys.stdout),
        )

    def print(self, text: str, *, filled: bool = False) -> None:
        """Print a result; on a terminal, without control characters.

        Args:
            text: The result.
            filled: Whether it is prose, whose words are not cut by the edge of a terminal.
        """
        self._make_way()
        shown = _filled(text, self.columns) if filled else text
        with _unwritable_results():
            self.out.write(_shown(shown, self.out) + "\n")

    def emit(self, value: object) -> None:
        """Print a result as JSON."""
        self.print(_json(value, self.out, indent=2))

    def emit_line(self, value: object) -> None:
        """Print one of several results as JSON, in one line."""
        self.print(_json(value, self.out))

    def emit_message(self, value: object) -> None:
        """Print a message as JSON in one line on `err`."""
        self._make_way()
        self.err.write(_json(value, self.err) + "\n")

    def flush(self) -> None:
        """Flush results, so that a failure can still be reported.

        Raises:
            DiskFullError: The disk that results are written to is full.
            ModelRunnerError: They cannot be written for another reason.
        """
        with _unwritable_results():
            self.out.flush()

    def say(self, text: str, *, filled: bool = False) -> None:
        """Print a message; not with `--quiet` or `--json`.

        Args:
            text: The message.
            filled: Whether it is prose, whose words are not cut by the edge of a terminal; no
                command in it could be copied any more.
        """
        if not self.quiet and not self.json:
            self.note(_filled(text, _columns(self.err)) if filled else text)

    def note(self, text: str) -> None:
        """Print a line on `err` in every case, above a drawn line."""
        self._make_way()
        self.err.write(_shown(text, self.err) + "\n")
        self.err.flush()

    def ask(self, question: str) -> None:
        """Print a question on `err`, without a line feed."""
        self._make_way()
        self.err.write(_shown(question, self.err))
        self.err.flush()

    def warn(self, text: str) -> None:
        """Print a warning, even with `--quiet`."""
        self._make_way()
        if self.json:
            self.err.write(_json({"warning": text}, self.err) + "\n")
        else:
            self.err.write(f"{self._bold('warning:', 33)} {_shown(text, self.err)}\n")

    def table(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        drop: Sequence[str] = (),
        cut: Sequence[str] = (),
    ) -> None:
        """Print columns under headings, see `Table`; on a terminal, fitted to its width."""
        from modelrunner.cli.terminal.table import Table

        for line in Table(headings, rows, drop, cut).lines(self.columns):
            self.print(line)

    def error(self, error: ModelRunnerError) -> None:
        """Print an error and its hint, or both as one JSON object."""
        self._make_way()
        if self.json:
            self.err.write(_json({"error": error.to_dict()}, self.err) + "\n")
            return
        self.err.write(f"{self._bold('error:', 31)} {_safe(error.message)}\n")
        if error.hint:
            self.err.write(f"{self._bold('hint:', 36)} {_safe(error.hint)}\n")

    def _make_way(self) -> None:
        if self.terminal:
            self.line.erase()

    def _bold(self, word: str, colour: int) -> str:
        return f"\x1b[1;{colour}m{word}\x1b[0m" if self.colour else word


@contextmanager
def _unwritable_results() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # nobody wants the rest: no error
        raise
    except OSError as exc:
        kind = DiskFullError if exc.errno in _FULL else ModelRunnerError
        raise kind(
            f"cannot write the result to stdout: {os_reason(exc)}",
            hint="check the pipe or the disk that stdout goes to",
        ) from exc


def _columns(stream: TextIO) -> int | None:
    try:
        # a terminal that does not know its width says 0
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _filled(text: str, columns: int | None) -> str:
    if columns is None or len(text) <= columns:
        return text
    from textwrap import fill

    return fill(text, columns, break_long_words=False, break_on_hyphens=False)


def _shown(text: str, stream: TextIO) -> str:
    """Return a text for a stream: what reaches a terminal controls nothing there."""
    return sanitize(text) if stream.isatty() else text


def _json(value: object, stream: TextIO, indent: int | None = None) -> str:
    """Return JSON for a stream: what a terminal would obey, or cannot show, is escaped."""
    import json

    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if stream.isatty():
        text = escape_unsafe(text)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def _safe(text: str) -> str:
    return sanitize_line(text, 2000)


def _never_fail_to_print(stream: TextIO) -> None:
    # a terminal without UTF-8 shows a question mark instead of ending the program
    if hasattr(stream, "reconfigure"):
        with suppress(OSError):
            # it flushes first, and the stream may be full: whoever writes next will see
            stream.reconfigure(errors="replace")
