import io
from pathlib import Path

import pytest

from modelrunner.cli.chat.slash_commands.desktop import copy
from modelrunner.errors import UsageError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_asked_where_there_is_no_desktop() -> None:
    screen = Terminal()
    assert "OSC 52" in copy("héllo", screen, {})
    assert screen.getvalue() == "\x1b]52;c;aMOpbGxv\x07"


def test_the_program_of_the_desktop_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "xclip"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/taken\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert copy("text", io.StringIO(), {"DISPLAY": ":0"}) == "copied with xclip"
    assert (tmp_path / "taken").read_text() == "text"
    with pytest.raises(UsageError, match="no clipboard"):
        copy("text", io.StringIO(), {"DISPLAY": ":0", "SSH_TTY": "/dev/pts/1"})


def test_an_answer_that_a_terminal_would_not_take_is_refused() -> None:
    with pytest.raises(UsageError, match="too long"):
        copy("x" * 80_000, Terminal(), {})
