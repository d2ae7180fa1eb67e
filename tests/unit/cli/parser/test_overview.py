"""The help of the program is what Typer would print."""

import pytest

from modelrunner.cli import app, by_typer
from modelrunner.cli.context import Invocation, root_options
from modelrunner.cli.parser.declared import parameters_of
from modelrunner.cli.parser.overview import overview


@pytest.mark.parametrize("columns", ["80", "81", "100", "300"])
@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_help_of_the_program_is_what_typer_prints(
    columns: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert by_typer.run(arguments, Invocation()) == 0
    assert overview(parameters_of(root_options), int(columns)) == capsys.readouterr().out
    assert app.main(arguments) == 0
    assert capsys.readouterr().out == overview(parameters_of(root_options), int(columns))


def test_on_a_narrow_terminal_lines_are_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert app.main(["--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60
