"""Markdown cut into sections, lines and tables: as much of it as model cards use.

Every step is linear in the text and takes any text: what is not a heading, fence or table is prose.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

# A card has some 6 kB, and the longest row of a real table some 400 characters.
LINE_LIMIT = 1 << 16
ROW_LIMIT = 2000
CELL_LIMIT = 64
HEADING_LIMIT = 400

_HEADING = r" {0,3}(#{1,6})[ \t]+(\S.*)"
# those of list items are indented
_FENCE = r"[ \t]*(`{3,}|~{3,})([^`]*)$"
_CELL_BORDER = r"(?<!\\)\|"
_BREAK = r"(?i)<br\s{0,3}/?>"
# possessive: a text of brackets must not make it try again from every place
_LINK = r"!?\[([^\[\]]*+)\]\(\s?([^()\s]*+(?:\([^()\s]*+\)[^()\s]*+)*+)(?:\s[^()]*+)?\)"
_EMPHASIS = r"\*\*|__|(?<!\w)\*(?=\w)|(?<=[\w.:!?])\*(?!\w)"
_URL = r"https?://[^\s<>()\[\]`\"'|]+(?:\([^\s<>()\[\]`\"'|]*\))?"
_SPACES = str.maketrans(dict.fromkeys("\u00a0\u2007\u2009\u202f\t", " "))
_MARKS = "¹²³⁴⁵⁶⁷⁸⁹⁰ⁱ"


class Table(NamedTuple):
    """A pipe table: the header's cells, then the rows'."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(NamedTuple):
    """A heading with the lines up to the next one, and the headings that it stands under.

    Attributes:
        level: From 1; 0 for what stands before any heading.
        title: The heading.
        parents: The headings above it, the outermost first.
        lines: Those up to the next heading, without comments and code fences.
        source: The same with the code fences.
    """

    level: int
    title: str
    parents: tuple[str, ...]
    lines: tuple[str, ...]
    source: tuple[str, ...] = ()

    def has_word(self, *words: str) -> bool:
        """Whether the heading or one above it contains one of the words, whatever their case."""
        path = " ".join((*self.parents, self.title)).casefold()
        return any(word in path for word in words)

    def tables(self) -> tuple[Table, ...]:
        """The tables of the section, in order."""
        return tuple(_tables(self.lines))


def sections(text: str) -> tuple[Section, ...]:
    """The text by headings; the first section has level 0 and what stands before any heading.

    What stands in a code fence is neither heading nor table nor comment. A fence that is never
    closed is text, so that one slip of the pen does not hide the rest of a card.
    """
    found: list[Section] = []
    level, title, path = 0, "", list[tuple[int, str]]()
    lines: list[str] = []
    source: list[str] = []
    for line, is_code in _lines(text):
        # most lines are not headings: their characters show that faster than a pattern
        fits = "#" in line and not is_code and len(line) <= HEADING_LIMIT
        heading = re.fullmatch(_HEADING, line) if fits else None
        if heading is None:
            source.append(line)
            if not is_code:
                lines.append(line)
            continue
        found.append(Section(level, title, _titles(path), tuple(lines), tuple(source)))
        if title:
            path.append((level, title))
        level, title, lines, source = len(heading[1]), _heading_text(heading[2]), [], []
        path = [(above, name) for above, name in path if above < level]
    found.append(Section(level, title, _titles(path), tuple(lines), tuple(source)))
    return tuple(found)


def code_at(lines: Sequence[str], number: int) -> tuple[tuple[str, ...], int] | None:
    """The code in a fence that opens at a line, and the number of the line behind it.

    Of a section's `source`, where every fence is closed.
    """
    fence = _fence(lines[number])
    end = None if fence is None else _end_of_fence(lines, number, fence[1])
    if end is None:
        return None
    indent = len(lines[number]) - len(lines[number].lstrip(" "))
    return tuple(_unindented(line, indent) for line in lines[number + 1 : end - 1]), end


def table_at(lines: Sequence[str], number: int) -> tuple[Table, int] | None:
    """The table whose header a line is, and the number of the line behind it."""
    if not _is_row(lines[number]) or number + 1 == len(lines):
        return None
    if not _is_separator(lines[number + 1]):
        return None
    columns = _cells(lines[number])
    end = number + 2
    while end < len(lines) and _goes_on(lines, end):
        end += 1
    rows = [_cells(line) for line in lines[number + 2 : end] if line.strip()]
    return Table(columns, tuple(rows[:ROW_LIMIT])), end


def is_picture_or_rule(line: str) -> bool:
    """Whether a line says nothing in a terminal: an image, a badge, a horizontal rule."""
    stripped = line.strip()
    return stripped.startswith(("![", "[![", "<img")) or set(stripped) in ({"-"}, {"*"}, {"_"})


def split_breaks(cell: str) -> list[str]:
    """The lines of a cell, which Markdown has to write with `<br>`."""
    return [line.strip() for line in re.split(_BREAK, cell)]


def without_marks(text: str) -> str:
    """Return a text with links as their labels, and without marks of emphasis."""
    return re.sub(_EMPHASIS, "", re.sub(_LINK, r"\1", text))


def plain(cell: str) -> str:
    """A cell's text: links by their label, no trailing footnote mark, no marks of emphasis."""
    text = _plain_spaces(cell)
    if "[" in text:
        text = re.sub(_LINK, r"\1", text)
    text = text.strip().rstrip(_MARKS).strip()
    for mark in ("**", "__"):
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            text = text[len(mark) : -len(mark)].strip()
    return text


def _plain_spaces(text: str) -> str:
    return text if text.isascii() and "\t" not in text else text.translate(_SPACES)


def label(cell: str) -> str:
    """A header or key cell as a name to compare: no marks, no case, single spaces."""
    text = plain(cell).replace("*", "").replace("`", "").rstrip(_MARKS + ": ")
    return " ".join(text.casefold().split())


def links(text: str) -> Iterator[tuple[str, str]]:
    """The links in a text as (label, address): Markdown's, then bare ones; images are left out."""
    rest: list[str] = []
    end = 0
    for match in re.finditer(_LINK, text):
        rest.append(text[end : match.start()])
        end = match.end()
        if not match[0].startswith("!") and re.match(_URL, match[2]):
            yield match[1].strip(), match[2]
    rest.append(text[end:])
    for match in re.finditer(_URL, " ".join(rest)):
        url = match[0].rstrip(".,;:!?")
        yield url, url


def prose(lines: Iterable[str]) -> str:
    """The lines without images and rules, blank ones at most one in a row."""
    kept: list[str] = []
    for line in lines:
        text = line.rstrip()
        if is_picture_or_rule(line):
            continue
        if text or (kept and kept[-1]):
            kept.append(text)
    return "\n".join(kept).strip("\n")


def _titles(path: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(name for _, name in path)


def _heading_text(text: str) -> str:
    text = text.strip()
    closed = text.rstrip("#")
    return closed.rstrip() if closed.endswith((" ", "\t")) else text


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """The lines without HTML comments, and whether each belongs to a code fence.

    What is never closed, a fence or a comment, is text, and so is the like behind it.
    """
    lines = text.split("\n")
    number = 0
    fences = comments = True
    while number < len(lines):
        line = lines[number]
        fence = _fence(line) if fences else None
        end = None if fence is None else _end_of_fence(lines, number, fence[1])
        if end is not None:
            yield from ((inside, True) for inside in lines[number:end])
            number = end
            continue
        fences = fences and fence is None
        number += 1
        if not comments or "<!--" not in line:
            yield line, False
            continue
        kept, position = "", 0
        while comments and (start := line.find("<!--", position)) >= 0:
            kept += line[position:start]
            close, position = line.find("-->", start), start
            if close < 0:
                there = next((n for n in range(number, len(lines)) if "-->" in lines[n]), None)
                comments = there is not None
                if there is None:
                    break
                line, number = lines[there], there + 1
                close = line.find("-->")
            position = close + len("-->")
        yield kept + line[position:], False


def _fence(line: str) -> re.Match[str] | None:
    is_one = ("```" in line or "~~~" in line) and len(line) <= LINE_LIMIT
    return re.fullmatch(_FENCE, line) if is_one else None


def _end_of_fence(lines: Sequence[str], number: int, marks: str) -> int | None:
    """The number of the line behind the fence that opens here; None where it is not closed."""
    for end in range(number + 1, len(lines)):
        fence = _fence(lines[end])
        if fence is not None and fence[1].startswith(marks) and not fence[2].strip():
            return end + 1
    return None


def _unindented(line: str, indent: int) -> str:
    """A line of code without the indent of its fence."""
    return line[min(indent, len(line) - len(line.lstrip(" "))) :]


def _tables(lines: Sequence[str]) -> Iterator[Table]:
    number = 0
    while number < len(lines):
        found = table_at(lines, number)
        if found is None:
            number += 1
            continue
        table, number = found
        yield table


def _goes_on(lines: Sequence[str], number: int) -> bool:
    """Whether a table's rows go on here: one blank line inside a table is forgiven."""
    if _is_row(lines[number]):
        return True
    following = lines[number + 1 : number + 3]
    return (
        not lines[number].strip()
        and bool(following)
        and following[0].lstrip().startswith("|")
        and _is_row(following[0])
        and not (len(following) > 1 and _is_separator(following[1]))
    )


def _is_row(line: str) -> bool:
    return "|" in line and len(line) <= LINE_LIMIT and not line.lstrip().startswith((">", "#"))


def _is_separator(line: str) -> bool:
    return "-" in line and _is_row(line) and not line.strip(" \t|:-")


def _cells(line: str) -> tuple[str, ...]:
    row = _plain_spaces(line).strip().removeprefix("|")
    if row.endswith("|") and not row.endswith("\\|"):
        row = row[:-1]
    return tuple(
        cell.strip().replace("\\|", "|") for cell in re.split(_CELL_BORDER, row)[:CELL_LIMIT]
    )
