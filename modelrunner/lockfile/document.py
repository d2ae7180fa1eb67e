"""A TOML file that still knows its lines, so that what is wrong with it is found by eye.

Its size is bounded, and the marks that version control leaves of a conflict are reported by name.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from modelrunner.errors import Fact, ModelRunnerError
from modelrunner.frozen import field, frozen
from modelrunner.text import TOML_HINT, available, os_hint, os_reason, suggest

_HEADER = r"\s*(\[\[?)\s*([^\]]+?)\s*\]"
_KEY = r"\s*([\w.\"' \t-]+?)\s*="
_ITEM = r"\s*\{"
_CONFLICT = r"(?m)^(?:<{7}|>{7})(?: .*)?$"
_PLACE = r" \(at (?:line (\d+), column \d+|end of document)\)$"
_WIDTH = 200
_LONGEST_LINE = 8192
"""A key of a hundred thousand parts would keep the parser busy for minutes."""


@frozen
class Kind:
    """What errors say of every file of one sort.

    Attributes:
        failure: What is raised where it says something wrong.
        limit: Bytes that it may have.
        conflict: What to do about a merge that was not finished.
        remedy: What to do where nothing better is known.
    """

    failure: type[ModelRunnerError]
    limit: int
    conflict: str
    remedy: str | None = None


@frozen
class Document:
    """A parsed file.

    Attributes:
        file: What it is called in messages.
        kind: Which sort of file it is.
        value: What it says.
        text: As it is written, with line feeds only.
    """

    file: str
    kind: Kind
    value: Mapping[str, Any]
    text: str = field(repr=False)

    @cached_property
    def _lines(self) -> Mapping[str, int]:
        return _lines_of(self.text)

    def line(self, *path: str | int) -> int:
        """The line of a key, or of the nearest thing around it that has one."""
        for length in range(len(path), 0, -1):
            found = self._lines.get(_join(path[:length]))
            if found is not None:
                return found
        return 1

    def refuse(self, *path: str | int, message: str, hint: str | None = None) -> NoReturn:
        """Says what is wrong at a key, and where that is."""
        place, facts = _position(self.file, self.line(*path))
        raise self.kind.failure(f"{place}: {message}", hint=hint or self.kind.remedy, **facts)

    def require_known(
        self, table: Mapping[str, Any], known: Sequence[str], *path: str | int
    ) -> None:
        """Refuses a table with keys that mean nothing here; the near ones are named."""
        for key in table:
            if key not in known:
                message = f"unknown key {key[:80]!r}"
                self.refuse(*path, key, message=message, hint=near(key, known))


def near(word: str, known: Sequence[str]) -> str:
    """A hint: what was meant, or everything that could have been."""
    return suggest(word, known, 2) or available(known)


def read_document(path: Path, kind: Kind) -> Document | None:
    """The parsed file, None where there is none; messages call it as it is named here.

    Raises:
        ModelRunnerError: The kind's failure: it cannot be read, or as `parse_document` says.
    """
    content = read_content(path, kind)
    return None if content is None else parse_document(content, str(path), kind)


def read_content(path: Path, kind: Kind) -> bytes | None:
    """What the file has, up to a byte more than it may have; None where there is none.

    Raises:
        ModelRunnerError: The kind's failure: it cannot be read.
    """
    try:
        # outside: a file of the project
        with path.open("rb") as file:
            return file.read(kind.limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise kind.failure(
            f"cannot read {path}: {os_reason(exc)}", hint=os_hint(exc), file=str(path)
        ) from exc


def parse_document(content: bytes, file: str, kind: Kind) -> Document:
    """Reads TOML.

    Raises:
        ModelRunnerError: The kind's failure: too large, no UTF-8, no TOML, or half of a merge.
    """
    if len(content) > kind.limit:
        raise kind.failure(f"{file} exceeds {kind.limit} bytes", hint=kind.remedy, file=file)
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        raise kind.failure(f"{file} is not UTF-8 text", hint=kind.remedy, file=file) from exc
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > _LONGEST_LINE:
            place, facts = _position(file, number)
            message = f"{place}: the line exceeds {_LONGEST_LINE} characters"
            raise kind.failure(message, hint=kind.remedy, **facts)
    # nobody else waits for the parser
    import tomllib

    try:
        return Document(file, kind, tomllib.loads(text), text)
    except (ValueError, RecursionError) as exc:
        raise _no_toml(text, file, kind, str(exc)) from exc


def _no_toml(text: str, file: str, kind: Kind, reason: str) -> ModelRunnerError:
    conflict = re.search(_CONFLICT, text)
    if conflict is not None:
        place, facts = _position(file, text.count("\n", 0, conflict.start()) + 1)
        message = f"{place}: unresolved merge conflict"
        return kind.failure(message, hint=kind.conflict, **facts)
    found = re.search(_PLACE, reason)
    last = text.rstrip("\n").count("\n") + 1
    place, facts = _position(file, int(found[1] or last) if found else 1)
    return kind.failure(f"{place}: invalid TOML", hint=kind.remedy or TOML_HINT, **facts)


def _position(file: str, line: int) -> tuple[str, dict[str, Fact]]:
    return f"{file}:{line}", {"file": file, "line": line}


def _join(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


def _lines_of(text: str) -> Mapping[str, int]:
    """Line numbers by dotted path; tables and items of lists are numbered from 0.

    Good for files as people and this program write them. A string that looks like a key may
    mislead it: then a message names another line, no more.
    """
    found: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = key = ""
    for number, whole in enumerate(text.split("\n"), start=1):
        # what is written further right is no key, and would take long to look at
        line = whole[:_WIDTH]
        if header := re.match(_HEADER, line):
            table = key = _within(counts, _plain(header[2]))
            if header[1] == "[[":
                table = key = _numbered(counts, table)
        elif re.match(_ITEM, line):
            found.setdefault(_numbered(counts, key), number)
            continue
        elif word := re.match(_KEY, line):
            key = f"{table}.{_plain(word[1])}" if table else _plain(word[1])
        else:
            continue
        # `[models.chat]` and `models.chat.ref = ...` make the tables above them too
        parts = key.split(".")
        for length in range(1, len(parts) + 1):
            found.setdefault(".".join(parts[:length]), number)
    return found


def _numbered(counts: dict[str, int], name: str) -> str:
    counts[name] = counts.get(name, -1) + 1
    return f"{name}.{counts[name]}"


def _within(counts: dict[str, int], name: str) -> str:
    """The path of a table; `[[model.signed]]` is in the last `[[model]]`."""
    first, *rest = name.split(".")
    for part in rest:
        first += f".{counts[first]}.{part}" if first in counts else f".{part}"
    return first


def _plain(key: str) -> str:
    return re.sub(r"\s*\.\s*", ".", re.sub(r"[\"']", "", key).strip())
