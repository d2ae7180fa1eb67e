"""The clipboard: by a program of the desktop, or through the terminal (OSC 52)."""

import base64
import shutil
import sys
from collections.abc import Mapping
from typing import TextIO

from modelrunner.cli.render import write
from modelrunner.errors import UsageError

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
    import subprocess

    quiet = subprocess.DEVNULL
    try:
        # what stays behind to hold the text shall not hold our terminal
        done = subprocess.run(
            line, input=raw, stdout=quiet, stderr=quiet, timeout=_WAIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
