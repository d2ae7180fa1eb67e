"""What a chat uses of the desktop: the clipboard, and the editor of one's choice."""

import base64
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from modelrunner.cli.rendering.writer import write
from modelrunner.errors import UsageError
from modelrunner.text import os_reason, sanitize_line

_LIMIT = 74_994
"""Bytes that every terminal with OSC 52 accepts."""

_WAIT_S = 5.0


def copy(text: str, screen: TextIO, environ: Mapping[str, str], *, plain: bool = False) -> str:
    """Copy a text to the clipboard, and return how.

    Args:
        text: The text to copy.
        screen: The terminal, if that is one.
        environ: The environment, which identifies the desktop.
        plain: Whether the terminal gets text only.

    Raises:
        UsageError: There is no clipboard, or the text is too long for it.
    """
    raw = text.encode("utf-8", errors="replace")
    for line in _programs(environ):
        if shutil.which(line[0]) and _taken(line, raw):
            return f"copied with {line[0]}"
    if plain or not screen.isatty():
        raise UsageError(
            "no clipboard program found", hint="install wl-copy or xclip, or use `/save FILE`"
        )
    if len(raw) > _LIMIT:
        raise UsageError(
            "the answer is too long for the terminal's clipboard", hint="save it with `/save FILE`"
        )
    write(screen, f"\x1b]52;c;{base64.b64encode(raw).decode()}\x07")
    return "copied through the terminal (OSC 52), if the terminal supports it"


def _programs(environ: Mapping[str, str]) -> list[list[str]]:
    """Return the programs of this desktop; none over SSH, where the clipboard is remote."""
    if environ.get("SSH_TTY"):
        return []
    if sys.platform == "darwin":
        return [["pbcopy"]]
    programs = []
    if environ.get("WAYLAND_DISPLAY"):
        programs += [["wl-copy"]]
    if environ.get("DISPLAY"):
        programs += [["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"]]
    if environ.get("WSL_DISTRO_NAME"):
        programs += [["clip.exe"]]
    return programs


def _taken(line: list[str], raw: bytes) -> bool:
    quiet = subprocess.DEVNULL
    try:
        # what stays behind to hold the text shall not hold our terminal
        done = subprocess.run(
            line, input=raw, stdout=quiet, stderr=quiet, timeout=_WAIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


_USUAL = ("nano", "vi", "notepad")


def edit(text: str, environ: Mapping[str, str]) -> str:
    """Edit a text in the editor, in a file that only the user can read.

    Args:
        text: The initial text.
        environ: The environment; `VISUAL` or `EDITOR` is the command.

    Raises:
        UsageError: There is no editor, it fails, or the text is not UTF-8.
    """
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
            raise _failed(line[0], os_reason(exc)) from exc
        if code:
            raise _failed(line[0], f"exited with code {code}, nothing was sent")
        try:
            # outside: the file just made
            return file.read_bytes().decode("utf-8").rstrip("\n")
        except OSError as exc:
            raise _failed(line[0], f"cannot read its file: {os_reason(exc)}") from exc
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
