"""The real apps, started by `launch`: on the real small model, and on one that calls their tools.

Their services are not reached: all that they ask has to come to us.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import CommandLine

pytestmark = [pytest.mark.real, pytest.mark.model, pytest.mark.slow]

SMOLLM2 = "ai/smollm2:135M-Q4_1"
CALLER = "ai/granite-4.0-micro"
NOTE = "the tide turns at noon"
WITHIN_S = 900


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which Claude Code is configured for another address, which nobody answers at."""
    folder = tmp_path / "user"
    (folder / ".claude").mkdir(parents=True)
    (folder / ".claude" / "settings.json").write_text(
        '{"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1", "ANTHROPIC_MODEL": "other"}}'
    )
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return folder


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("claude", ("-p", "Say hi", "--tools", "", "--system-prompt", "Be short.")),
        ("codex", ("exec", "--skip-git-repo-check", "Say hi")),
        ("opencode", ("run", "Say hi")),
        (
            "aider",
            (
                *("--message", "Say hi", "--no-git", "--yes-always", "--no-pretty"),
                *("--no-stream", "--map-tokens", "0", "--no-check-update"),
            ),
        ),
    ],
    ids=["claude", "codex", "opencode", "aider"],
)
@pytest.mark.timeout(3 * WITHIN_S + 60)
def test_an_app_answers_one_question(
    models: CommandLine, home: Path, program: str, arguments: tuple[str, ...]
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    # by chance, so small a model repeats itself to its limit, which is an error for Codex
    likeliest = ("--set", "temperature=0", "--set", "repeat-penalty=1.1")
    for _attempt in range(3):
        done = models(
            *("launch", program, "--model", SMOLLM2, *likeliest, "--", *arguments),
            timeout=WITHIN_S,
            HOME=str(home),
            PYTHONWARNINGS="ignore",
        )
        if "reason: max_output_tokens" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    # an answer of the model, whatever it is
    assert len(done.stdout.split()) > 0, done.stderr
    settings = (home / ".claude" / "settings.json").read_text()
    assert '"ANTHROPIC_MODEL": "other"' in settings
    # the server has ended with the app, and what it logs of a failure is gone
    assert models("ps", "--json").stdout == "[]\n"
    assert [*(models.home / "state" / "serve").iterdir()] == []


def calling_runtime(folder: Path, steps: list[dict[str, object]]) -> str:
    """A `llama-server` on PATH whose model calls the apps' tools; the PATH."""
    folder.mkdir()
    script = folder / "steps.json"
    script.write_text(json.dumps(steps))
    program = folder / "llama-server"
    root = Path(__file__).parents[2]
    program.write_text(
        f"#!/bin/sh\ncd {root} && exec {sys.executable} -m tests.support.calling_llama_server"
        f' --script {script} "$@"\n'
    )
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("claude", ("-p", "What does the note say?", "--allowedTools", "Read", "Bash")),
        (
            "codex",
            (
                *("exec", "--skip-git-repo-check"),
                *("--dangerously-bypass-approvals-and-sandbox", "What does the note say?"),
            ),
        ),
        ("opencode", ("run", "What does the note say?")),
    ],
    ids=["claude", "codex", "opencode"],
)
@pytest.mark.timeout(WITHIN_S + 60)
def test_an_app_runs_the_tools_that_the_model_calls_and_answers(
    models: CommandLine, home: Path, tmp_path: Path, program: str, arguments: tuple[str, ...]
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    note = tmp_path / "project" / "note.txt"
    note.write_text(f"{NOTE}\n")
    shout = "tr a-z A-Z < note.txt | tee loud.txt"
    cat = f"cat {note}"
    steps: list[dict[str, object]] = [
        {
            "Read": {"file_path": str(note)},
            "read": {"filePath": str(note)},
            "exec_command": {"cmd": cat},
            "shell_command": {"command": cat},
            "shell": {"command": ["sh", "-c", cat]},
        },
        {
            "Bash": {"command": shout, "description": "Writes it in capitals"},
            "bash": {"command": shout, "description": "Writes it in capitals"},
            "exec_command": {"cmd": shout},
            "shell_command": {"command": shout},
            "shell": {"command": ["sh", "-c", shout]},
        },
    ]
    done = models(
        *("launch", program, "--runtime", "llama-server", "--model", CALLER, "--", *arguments),
        timeout=WITHIN_S,
        HOME=str(home),
        PATH=calling_runtime(tmp_path / "runtime", steps),
        PYTHONWARNINGS="ignore",
    )
    assert done.returncode == 0, done.stderr
    # both have run, and the model got what they printed
    assert (note.parent / "loud.txt").read_text() == f"{NOTE.upper()}\n"
    said = done.stdout + done.stderr
    assert "The tools said:" in said, said
    answer = said[said.rindex("The tools said:") :]
    assert NOTE in answer
    assert NOTE.upper() in answer
