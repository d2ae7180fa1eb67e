"""Files in a message: the exact text of `@path`, in its place; an image as a data URI."""

import base64
import re
from pathlib import Path

from modelrunner.errors import UsageError
from modelrunner.frozen import frozen
from modelrunner.text import os_hint, os_reason, sanitize_line
from modelrunner.units import format_size

LIMIT = 256 * 1024
"""Maximum size of a text file in a message, in bytes."""

PICTURE_LIMIT = 16 * 1024 * 1024
"""Maximum size of an image, in bytes."""

_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
)

# at the start of a word only: an address like me@example.org names no file
_MENTION = re.compile(r'(?<!\S)@(?:"(?P<quoted>[^"\n]+)"|(?P<bare>[^\s"]+))')
_PUNCTUATION = ".,;:!?)]}'"
_TEXT_HINT = "use a text file, or an image (PNG, JPEG, GIF or BMP)"


@frozen
class FilledMessage:
    """A message with its files, and the mentions that name no file."""

    text: str
    missing: tuple[str, ...]


def insert_files(text: str, folder: Path) -> FilledMessage:
    """Replace each `@path` and `@"path with spaces"` by the text of the file.

    A path is taken relative to `folder`; `~` is the home directory. Punctuation after a path is
    left where it is. Mentions within an inserted file are not followed.

    Raises:
        UsageError: A file is too large, is not UTF-8 text, or cannot be read.
    """
    missing: list[str] = []

    def content(mention: re.Match[str]) -> str:
        name = mention["quoted"] or mention["bare"]
        for path in _readings(name, quoted=mention["quoted"] is not None):
            file = folder / _home(path)
            if _is_file(file):
                return read_text(file) + name[len(path) :]
        missing.append(name)
        return mention[0]

    return FilledMessage(_MENTION.sub(content, text), tuple(missing))


def _readings(name: str, *, quoted: bool) -> list[str]:
    """Return the name as written, and without the punctuation after it."""
    shorter = name.rstrip(_PUNCTUATION)
    return [name] if quoted or shorter in {"", name} else [name, shorter]


def _home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~somebody who is not there
        return Path(path)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # no name that a file could have, or in a folder that is closed to us
        return False


def read_text(file: Path) -> str:
    """Return the exact text of a file.

    Raises:
        UsageError: It is too large, is not UTF-8 text, or cannot be read.
    """
    name = sanitize_line(str(file))
    raw = _read(file, LIMIT)
    if b"\0" in raw:
        raise UsageError(f"{name} is not a text file (it has NUL bytes)", hint=_TEXT_HINT)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError(
            f"{name} is not a text file (invalid UTF-8 at byte {exc.start})", hint=_TEXT_HINT
        ) from exc


def read_picture(file: Path) -> str:
    """Return an image as a data URI for a message.

    Raises:
        UsageError: It is too large, has an unsupported format, or cannot be read.
    """
    raw = _read(file, PICTURE_LIMIT)
    kind = next((kind for start, kind in _PICTURES if raw.startswith(start)), None)
    if kind is None:
        raise UsageError(
            f"{sanitize_line(str(file))}: unsupported image format",
            hint="use a PNG, JPEG, GIF or BMP file",
        )
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"


def _read(file: Path, limit: int) -> bytes:
    name = sanitize_line(str(file))
    try:
        if not file.is_file():
            # a pipe or a device would be waited for
            raise UsageError(
                f"{name} is not a file" if file.exists() else f"{name}: file not found",
                hint="check the path",
            )
        # outside: a file that a person names
        with file.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as exc:
        raise UsageError(f"cannot read {name}: {os_reason(exc)}", hint=os_hint(exc)) from exc
    if len(raw) > limit:
        raise UsageError(
            f"{name} is larger than {format_size(limit)}, the limit of a message",
            hint="send only a part of it",
        )
    return raw
