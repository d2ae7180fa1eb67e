import errno
import io
import json
import sys
from collections.abc import Mapping

import pytest

from modelrunner.cli.console import Console, ProgressMode
from modelrunner.errors import DiskFullError, ModelNotFoundError, ModelRunnerError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def flush(self) -> None:
        raise OSError(self.number, "no")


def console(**fields: object) -> Console:
    return Console(io.StringIO(), io.StringIO(), **fields)  # type: ignore[arg-type]


def written(found: Console) -> tuple[str, str]:
    return found.out.getvalue(), found.err.getvalue()  # type: ignore[attr-defined]


ERROR = ModelNotFoundError("ai/x: no such\x1b[31m model", hint="try\nai/y", near=["ai/y"])


def test_an_error_is_two_safe_lines_on_stderr() -> None:
    found = console()
    found.error(ERROR)
    assert written(found) == ("", "error: ai/x: no such model\nhint: try ai/y\n")


def test_an_error_as_json_is_one_line_on_stderr() -> None:
    found = console(json=True)
    found.error(ERROR)
    out, err = written(found)
    assert (out, err.count("\n")) == ("", 1)
    assert json.loads(err) == {"error": ERROR.to_dict()}


def test_colour_is_only_where_it_is_wanted() -> None:
    found = console(colour=True)
    found.error(ModelRunnerError("no"))
    found.warn("careful")
    assert written(found)[1] == ("\x1b[1;31merror:\x1b[0m no\n\x1b[1;33mwarning:\x1b[0m careful\n")


@pytest.mark.parametrize(
    ("fields", "err"),
    [
        ({}, "talk\nwarning: careful\n"),
        ({"quiet": True}, "warning: careful\n"),
        ({"json": True}, '{"warning": "careful"}\n'),
    ],
)
def test_talk_is_for_people_and_warnings_are_for_all(fields: dict[str, bool], err: str) -> None:
    found = console(**fields)
    found.say("talk")
    found.warn("careful")
    assert written(found) == ("", err)


def test_a_table_is_columns_and_its_cells_are_safe() -> None:
    found = console()
    found.table(("NAME", "SIZE"), [("a", "1 B"), ("\x1b[31mlong\nname", "")])
    assert written(found)[0] == "NAME       SIZE\na          1 B\nlong name\n"


@pytest.mark.parametrize(
    ("environ", "colour", "bars"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "xterm", "CI": "true"}, False, False),
        ({"TERM": "xterm", "CI": "false"}, True, True),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_a_terminal_is_asked_what_it_can(
    monkeypatch: pytest.MonkeyPatch, environ: Mapping[str, str], colour: bool, bars: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    found = Console.on_terminal(environ, json_output=False, quiet=False, progress=ProgressMode.AUTO)
    assert (found.colour, found.bars) == (colour, bars)


def test_a_pipe_gets_neither_colour_nor_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    found = Console.on_terminal({}, json_output=False, quiet=False, progress=ProgressMode.BAR)
    assert (found.colour, found.bars, found.terminal) == (False, False, False)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFullError), (errno.EIO, ModelRunnerError), (errno.EPIPE, BrokenPipeError)],
)
def test_a_result_that_cannot_be_written_is_an_error(
    number: int, kind: type[BaseException]
) -> None:
    with pytest.raises(kind):
        Console(Full(number), io.StringIO()).flush()
