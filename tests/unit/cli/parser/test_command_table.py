from typing import Any

import pytest

from modelrunner.cli.by_typer import parser as typer_parser
from modelrunner.cli.parser.command_table import COMMANDS, GROUPS, load
from modelrunner.cli.parser.help_text import parameters


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_of_a_command_is_its_own_in_short(name: str) -> None:
    entry = COMMANDS[name]
    declaration = load(name)
    assert declaration is not None
    own = (declaration.function.__doc__ or "").splitlines()[0]
    assert first_word(own) == first_word(entry.summary)
    assert entry.summary.endswith(".")
    # a terminal of 80 columns shows it in one line
    assert len(entry.summary) <= 60


def first_word(sentence: str) -> str:
    return sentence.split(maxsplit=1)[0].rstrip(":;,.")


def test_every_module_of_a_command_is_in_the_table() -> None:
    from pathlib import Path

    import modelrunner.cli.commands as package

    modules = {path.stem for path in Path(package.__path__[0]).glob("*.py")} - {"__init__"}
    assert {entry.place.partition(":")[0] for entry in COMMANDS.values()} == modules


def test_every_command_that_is_shown_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    shown = [name for name, entry in COMMANDS.items() if not entry.hidden]
    assert sorted(grouped) == sorted(shown)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_and_option_says_what_it_is(name: str) -> None:
    root: Any = typer_parser()
    context = root.context_class(root, info_name="modelrunner")
    command = root.get_command(context, name)
    found = parameters(command.context_class(command, info_name=name, parent=context), ())
    silent = [term for rows in found.values() for term, meaning in rows if not meaning]
    assert silent == []
