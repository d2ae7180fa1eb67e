"""Foreign text made safe to show: no control, escape or direction character gets through."""

import re

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x1b\\|\x07|$)|[@-Z\\-_])", re.DOTALL
)


def sanitize(text: str) -> str:
    """Text with escape sequences and unsafe characters removed; tabs and line feeds stay."""
    return _UNSAFE.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def sanitize_line(text: str, limit: int = 500) -> str:
    """Text as one safe line of at most `limit` characters: for names and registry messages."""
    line = " ".join(sanitize(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
