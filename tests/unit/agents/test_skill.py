"""The skill for coding agents: its head, and commands that exist; see the documentation's test."""

import json
import re

from modelrunner.agents.skill import read_skill
from modelrunner.cli.parser.command_table import COMMANDS
from tests.conftest import CommandLine
from tests.unit.test_documented_commands import SKILL, documented, faults


def test_a_skill_has_the_head_that_agents_read() -> None:
    skill = read_skill()
    assert skill.name == "modelrunner"
    assert re.fullmatch(r"[a-z0-9-]{1,64}", skill.name)
    assert 100 < len(skill.description) <= 1024
    assert skill.text.startswith("---\nname: modelrunner\ndescription: Find, check, download")
    # agents read it whole
    assert len(skill.text.splitlines()) < 150


def test_it_says_how_to_find_fit_download_pin_and_serve() -> None:
    lines = [*documented(SKILL)]
    assert [fault for words in lines for fault in faults(words)] == []
    named = {words[0] for words in lines}
    assert named >= {
        *("search", "card", "tags", "estimate", "devices", "pull", "lock", "verify", "serve"),
        *("ps", "stop", "run", "launch", "export", "doctor"),
    }
    assert named <= {*COMMANDS}


def test_the_command_prints_it(cli: CommandLine) -> None:
    done = cli("skill")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == SKILL.read_text()
    assert json.loads(cli("skill", "--json").stdout)["text"] == done.stdout
