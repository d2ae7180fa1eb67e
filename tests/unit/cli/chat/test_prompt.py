from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from modelrunner.cli.chat.prompt import completer


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("/ex", ["/exit"]),
        ("/s", ["/save", "/save!", "/set", "/show", "/stats", "/system"]),
        ("look at @no", ["look at @notes.txt"]),
        ("@my", ['@"my file.txt"']),
        ('@"my f', ['@"my file.txt']),
        ("/file my", ["/file my file.txt"]),
        ("me@no", []),
        ("no", []),
    ],
)
def test_tab_completes_commands_and_paths(
    typed: str, completed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "my file.txt").touch()
    monkeypatch.chdir(tmp_path)
    found = completer().get_completions(Document(typed), CompleteEvent())
    assert [typed[: len(typed) + entry.start_position] + entry.text for entry in found] == completed
