import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from modelrunner.cli.chat.prompt import HistoryFile, TerminalPrompt, unquote

ENTER, ALT_ENTER, UP, CTRL_R = "\r", "\x1b\r", "\x1b[A", "\x12"


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as source:
        yield source


def test_enter_sends(keys: PipeInput) -> None:
    prompt = TerminalPrompt(source=keys, screen=DummyOutput())
    keys.send_text(f"one{ENTER}two\n")
    assert [prompt.read(), prompt.read()] == ["one", "two"]


def test_alt_enter_starts_a_new_line(keys: PipeInput) -> None:
    keys.send_text(f"one{ALT_ENTER}two{ENTER}")
    assert TerminalPrompt(source=keys, screen=DummyOutput()).read() == "one\ntwo"


def test_three_quotes_go_on_until_three_quotes(keys: PipeInput) -> None:
    keys.send_text(f'"""one{ENTER}two{ENTER}"""{ENTER}')
    assert TerminalPrompt(source=keys, screen=DummyOutput()).read() == '"""one\ntwo\n"""'


def test_pasted_lines_are_one_message(keys: PipeInput) -> None:
    keys.send_text(f"\x1b[200~one\r\ntwo\rthree\n\x1b[201~{ENTER}")
    assert TerminalPrompt(source=keys, screen=DummyOutput()).read() == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("typed", "message"),
    [(UP, "a lake"), (f"{UP}{UP}", "the sea"), (f"{CTRL_R}SEA{ENTER}", "the sea")],
)
def test_what_was_typed_before_comes_back(keys: PipeInput, typed: str, message: str) -> None:
    prompt = TerminalPrompt(["the sea", "a lake"], source=keys, screen=DummyOutput())
    # history is loaded while the prompt waits: nobody's fingers are faster, but a pipe is
    typing = threading.Timer(0.2, keys.send_text, [f"{typed}{ENTER}"])
    typing.start()
    assert prompt.read() == message
    typing.join()


def test_ctrl_c_and_ctrl_d_are_told_apart(keys: PipeInput) -> None:
    prompt = TerminalPrompt(source=keys, screen=DummyOutput())
    keys.send_text("half\x03\x04")
    with pytest.raises(KeyboardInterrupt):
        prompt.read()
    with pytest.raises(EOFError):
        prompt.read()


def test_a_terminal_that_ends_is_an_end_of_file() -> None:
    with create_pipe_input() as source:
        prompt = TerminalPrompt(source=source, screen=DummyOutput())
        source.close()
        with pytest.raises(EOFError):
            prompt.read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"""one\ntwo"""', "one\ntwo"),
        ('"""\n  one\n"""', "  one"),
        ('""""""', ""),
        ('"""a""" and """b"""', '"""a""" and """b"""'),
        ('"""doc"""\ncode', '"""doc"""\ncode'),
        ('"""', '"""'),
        ("plain", "plain"),
    ],
)
def test_three_quotes_around_a_message_are_not_part_of_it(text: str, message: str) -> None:
    assert unquote(text) == message


def test_history_is_kept_from_chat_to_chat(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    HistoryFile(path).append("one\ntwo é\udcff")
    HistoryFile(path).append("three")
    assert HistoryFile(path).load() == ["one\ntwo é\udcff", "three"]


def test_history_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    path = tmp_path / "history"
    HistoryFile(path).append("new")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    HistoryFile(path).append("loosened")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_long_history_is_shortened_to_its_newest_thousand(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("".join(f'"{number}"\n' for number in range(2001)))
    assert HistoryFile(path).load() == [str(number) for number in range(1001, 2001)]
    assert path.read_text() == "".join(f'"{number}"\n' for number in range(1001, 2001))
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_lines_that_are_no_history_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b'"good"\n"torn\n{}\n\xff\xfe\n12\n"too"\n')
    assert HistoryFile(path).load() == ["good", "too"]


def test_a_history_that_cannot_be_kept_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    history = HistoryFile(tmp_path / "file" / "history")
    history.append("one")
    assert history.load() == []


def test_a_history_line_is_json(tmp_path: Path) -> None:
    path = tmp_path / "history"
    HistoryFile(path).append("a\u2028b")
    assert json.loads(path.read_text()) == "a\u2028b"
