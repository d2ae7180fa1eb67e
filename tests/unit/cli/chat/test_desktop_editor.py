import stat
from pathlib import Path

import pytest

from modelrunner.cli.chat.slash_commands.desktop import edit
from modelrunner.errors import UsageError


def editor(folder: Path, body: str) -> str:
    script = folder / "my editor"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o700)
    return f"'{script}' --wait"


def test_the_message_is_what_the_editor_leaves(tmp_path: Path) -> None:
    named = editor(tmp_path, 'printf "new\\ntext\\n\\n" > "$2"')
    assert edit("old", {"VISUAL": named, "EDITOR": "false"}) == "new\ntext"


def test_nobody_else_can_read_the_file(tmp_path: Path) -> None:
    mode = tmp_path / "mode"
    named = editor(tmp_path, f'stat -c "%a" "$2" "$(dirname "$2")" > {mode}')
    assert edit("secret", {"EDITOR": named}) == "secret"
    assert mode.read_text().split() == ["600", "700"]
    assert stat.S_ISREG(mode.stat().st_mode)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("exit 3", "exited with code 3, nothing was sent"),
        ("printf '\\377' > \"$2\"", "its file has invalid UTF-8 at byte 0"),
        ('rm "$2"', "cannot read its file: no such file or directory"),
    ],
)
def test_what_an_editor_fails_at_is_told(tmp_path: Path, body: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        edit("", {"EDITOR": editor(tmp_path, body)})


def test_an_editor_that_is_not_there_is_told() -> None:
    with pytest.raises(UsageError, match="editor /no/such: no such file"):
        edit("", {"EDITOR": "/no/such -w"})
