"""A message written in the user's editor."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from modelrunner.errors import UsageError
from modelrunner.text import sanitize_line

_USUAL = ("nano", "vi", "notepad")


def edit(text: str, environ: Mapping[str, str]) -> str:
    """Edit a text in the editor, in a file that only the user can read.

    Args:
        text: The initial text.
        environ: The environment; `VISUAL` or `EDITOR` is the command.

    Raises:
        UsageError: There is no editor, it fails, or the text is not UTF-8.
    """
    import subprocess

    line = _editor(environ)
    # the folder is the user's alone, so are the backups that an editor leaves beside the file
    with tempfile.TemporaryDirectory(prefix="modelrunner-") as folder:
        file = Path(folder) / "message.md"
        # outside: new, in a directory of its own
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            # own text: a file
            stream.write(text.encode("utf-8", errors="replace"))
        try:
            code = subprocess.run([*line, str(file)], check=False).returncode
        except OSError as exc:
            raise _failed(line[0], exc.strerror or "cannot be started") from exc
        if code:
            raise _failed(line[0], f"exited with code {code}, nothing was sent")
        try:
            # outside: the file just made
            return file.read_bytes().decode("utf-8").rstrip("\n")
        except OSError as exc:
            raise _failed(line[0], f"cannot read its file: {exc.strerror}") from exc
        except UnicodeDecodeError as exc:
            raise _failed(line[0], f"its file has invalid UTF-8 at byte {exc.start}") from exc


def _editor(environ: Mapping[str, str]) -> list[str]:
    named = environ.get("VISUAL") or environ.get("EDITOR")
    if named:
        try:
            words = shlex.split(named)
        except ValueError as exc:
            raise _failed(named, "unbalanced quotes in its command") from exc
        if words:
            return words
    for name in _USUAL:
        if shutil.which(name):
            return [name]
    raise UsageError("no editor found", hint="set `EDITOR` to your editor")


def _failed(name: str, why: str) -> UsageError:
    return UsageError(
        f"editor {sanitize_line(name, 80)}: {why}", hint="set `EDITOR` to your editor"
    )
