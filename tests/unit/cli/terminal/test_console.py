import errno
import io
import json
import os
import sys
from collections.abc import Mapping
from termios import tcsetwinsize

import pytest

from modelrunner.cli.terminal.console import Console, ProgressMode
from modelrunner.errors import DiskFullError, ModelNotFoundError, ModelRunnerError
from tests.support import terminal as person


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


def test_the_edge_of_a_terminal_cuts_no_word_of_prose() -> None:
    master, slave = os.openpty()
    tcsetwinsize(slave, (24, 40))
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        found = Console(io.StringIO(), terminal)
        text = "ai/m:1 Q4_0: fits, needs 13.50 MiB of 22.17 GiB memory; context 8192"
        found.say(text, filled=True)
        found.say(text)
        found.say("the end")
        screen = person.Terminal(master)
        seen = screen.wait_for("the end").replace("\r", "")
        screen.hang_up()
    assert seen == (
        "ai/m:1 Q4_0: fits, needs 13.50 MiB of\n22.17 GiB memory; context 8192\n" + text + "\n"
    )
    pipe = console()
    pipe.say(text, filled=True)
    assert written(pipe) == ("", text + "\n")


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


class Screen(io.StringIO):
    """A terminal that remembers."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


NASTY = "a\x9b31mb\x7fc\u202ed\u200be\u2066f\x1b[2Jg"
UNSAFE = set("\x9b\x7f\u202e\u200b\u2066\x1b")


def test_json_on_a_terminal_is_escaped_and_the_same_value() -> None:
    screen = Screen()
    Console(screen, io.StringIO()).emit({"name": NASTY})
    assert not UNSAFE & set(screen.getvalue())
    assert json.loads(screen.getvalue()) == {"name": NASTY}


def test_json_in_a_pipe_is_as_it_is() -> None:
    pipe = io.StringIO()
    Console(pipe, io.StringIO()).emit({"name": "größe\u202e"})
    assert pipe.getvalue() == '{\n  "name": "größe\u202e"\n}\n'


def test_json_for_a_stream_without_unicode_loses_nothing() -> None:
    raw = io.BytesIO()
    pipe = io.TextIOWrapper(raw, "ascii", errors="replace")
    Console(pipe, io.StringIO()).emit({"name": "größe"})
    pipe.flush()
    assert json.loads(raw.getvalue()) == {"name": "größe"}


def test_no_way_of_speaking_lets_a_control_character_onto_a_terminal() -> None:
    out, err = Screen(), Screen()
    for console in (Console(out, err), Console(out, err, json=True)):
        console.print(NASTY)
        console.note(NASTY)
        console.say(NASTY)
        console.warn(NASTY)
        console.ask(NASTY)
        console.table(("NAME",), ((NASTY,),))
        console.error(ModelRunnerError(NASTY, hint=NASTY, fact=NASTY))
        console.emit_message({"event": NASTY})
        console.emit_line([NASTY])
    assert not UNSAFE & set(out.getvalue() + err.getvalue())
