"""The manual pages: one a command, made of what the commands say, and valid for `man`."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelrunner.cli.parser.command_table import COMMANDS, GROUPS

MAKE = Path(__file__).parents[2] / "manual" / "man.py"


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Every page, as a build makes it."""
    folder = tmp_path_factory.mktemp("manual")
    subprocess.run([sys.executable, MAKE, folder], check=True)
    return {path.name: path.read_text("utf-8") for path in folder.iterdir()}


def test_every_command_has_a_page_that_the_first_one_names(manual: Mapping[str, str]) -> None:
    commands = [name for names in GROUPS.values() for name in names]
    assert {*manual} == {"modelrunner.1", *(f"modelrunner-{name}.1" for name in commands)}
    first = manual["modelrunner.1"].replace("\\-", "-")
    named = re.findall(r"modelrunner-([a-z-]+)\(1\)", first)
    assert named == commands


def test_a_page_has_everything_that_help_has(manual: Mapping[str, str]) -> None:
    page = manual["modelrunner-lock.1"].replace("\\-", "-")
    assert re.findall(r"^\.SH (.+)$", page, re.MULTILINE) == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "ARGUMENTS", "OPTIONS", "GLOBAL OPTIONS"),
        *("EXAMPLES", "SEE ALSO"),
    ]
    assert "\\fB--update NAME\\fR" in page
    assert "\n    modelrunner lock --check\n" in page
    assert f"modelrunner-lock - {COMMANDS['lock'].summary.rstrip('.')}\n" in page


def test_the_first_page_has_exit_codes_and_the_environment(manual: Mapping[str, str]) -> None:
    first = manual["modelrunner.1"]
    codes = first.partition(".SH EXIT CODES\n")[2].partition(".SH")[0]
    found = re.findall(r"\\fB(\d+)\\fR", codes)
    assert found == [*map(str, range(11)), "130"]
    assert "\\fBMODELRUNNER_HOME\\fR" in first.partition(".SH ENVIRONMENT\n")[2]
    assert not re.search(r"docs/|\b[a-z-]+\.md\b", first)


def test_pages_are_valid_roff(manual: Mapping[str, str], tmp_path: Path) -> None:
    macros = {".TH", ".SH", ".SS", ".PP", ".TP", ".nf", ".fi", ".nh", ".ad", '.\\"'}
    for name, text in manual.items():
        used = {line.split()[0] for line in text.splitlines() if line.startswith((".", "'"))}
        assert used <= macros, name
        for escaped in re.findall(r"\\(.)", text):
            assert escaped in {"f", "e", "-", "&", "(", '"'}, (name, escaped)
    if shutil.which("groff") is None:
        return
    for name, text in manual.items():
        (tmp_path / name).write_text(text, "utf-8")
    command = ["groff", "-man", "-ww", "-z", "-K", "utf8", "-T", "utf8"]
    done = subprocess.run(
        [*command, *sorted(tmp_path.iterdir())], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
