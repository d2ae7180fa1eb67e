"""The real apps, started by `launch` on the real small model, each for one question.

Their services are not reached: all that they ask has to come to us.
"""

import shutil
from pathlib import Path

import pytest

from tests.conftest import CommandLine

pytestmark = [pytest.mark.real, pytest.mark.model, pytest.mark.slow]

SMOLLM2 = "ai/smollm2:135M-Q4_1"
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
@pytest.mark.timeout(WITHIN_S + 60)
def test_an_app_answers_one_question(
    models: CommandLine, home: Path, program: str, arguments: tuple[str, ...]
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = models(
        "launch",
        program,
        "--model",
        SMOLLM2,
        "--",
        *arguments,
        timeout=WITHIN_S,
        HOME=str(home),
        PYTHONWARNINGS="ignore",
    )
    assert done.returncode == 0, done.stderr
    # an answer of the model, whatever it is
    assert len(done.stdout.split()) > 0, done.stderr
    settings = (home / ".claude" / "settings.json").read_text()
    assert '"ANTHROPIC_MODEL": "other"' in settings
    # the server has ended with the app, and what it logs of a failure is gone
    assert models("ps", "--json").stdout == "[]\n"
    assert [*(models.home / "state" / "serve").iterdir()] == []
