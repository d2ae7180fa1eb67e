"""Markdown to `Card`: any text gives a card, and what cannot be read is missing or warned of."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from modelrunner.cards.attributes import parse_attributes
from modelrunner.cards.benchmarks import parse_benchmarks
from modelrunner.cards.card import Attributes, Card, CardSection, Link, Shape
from modelrunner.cards.checks import odd_rows
from modelrunner.cards.markdown import LINE_LIMIT, Section, links, prose, sections
from modelrunner.cards.shapes import parse_shapes
from modelrunner.cards.variants import latest_of, parse_variants
from modelrunner.text import sanitize

# Docker Hub's limit for a description is 25,000 characters; no real card is near this.
TEXT_LIMIT = 1 << 20
WARNING_LIMIT = 100

_FOOTNOTE = r"([¹²³⁴⁵⁶⁷⁸⁹⁰ⁱ]{1,3}|i|\d{1,2})\s?:\s*(\S.*)"
_LINK_PLACES = ("link", "resource", "reference", "further reading")


def parse_card(text: str, *, name: str | None = None) -> Card:
    """The card that a text is.

    Args:
        text: Markdown, or anything else: nothing raises.
        name: The repository's name without its namespace, where it is known.
    """
    clean, warnings = _clean(text)
    parts = sections(clean)
    table = parse_variants(parts)
    latest = latest_of(table.variants, table.note, name)
    title = next((part.title for part in parts if part.level == 1), None)
    if title is None:
        warnings.append("the card has no title")
    warnings.extend(table.warnings)
    warnings.extend(odd_rows(table.variants, note=table.note, latest=latest, name=name))
    return Card(
        name=name,
        title=title,
        description=_description(parts),
        attributes=_attributes(parts),
        variants=table.variants,
        latest=latest,
        benchmarks=parse_benchmarks(parts),
        links=_links(parts),
        footnotes=_footnotes(parts),
        shapes=_shapes(parts),
        warnings=_bounded(tuple(dict.fromkeys(warnings))),
        sections=tuple(_sections(parts)),
        text=clean,
    )


def read_card(path: Path, *, name: str | None = None) -> Card:
    """The card in a file, whatever its bytes are; `name` as for `parse_card`.

    Raises:
        OSError: The file cannot be read.
    """
    # outside: a card that a person names, or one of ours
    with path.open("rb") as file:
        content = file.read(4 * TEXT_LIMIT + 4)
    return parse_card(content.decode("utf-8-sig", "replace"), name=name)


def _clean(text: str) -> tuple[str, list[str]]:
    """The text bounded and without control characters, line by line."""
    warnings: list[str] = []
    if len(text) > TEXT_LIMIT:
        warnings.append(f"the card exceeds {TEXT_LIMIT} characters: the rest is ignored")
        text = text[:TEXT_LIMIT]
    # half a surrogate pair, which JSON can carry, is no character that could be written anywhere
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    clean = sanitize(text)
    if clean != text:
        # an escape sequence that never ends takes its line with it, not the rest of the card
        clean = "\n".join(map(sanitize, text.split("\n")))
        warnings.append("control characters were removed")
    if "\ufffd" in clean:
        warnings.append("the card is not valid UTF-8")
    if len(clean) > LINE_LIMIT and any(len(line) > LINE_LIMIT for line in clean.split("\n")):
        warnings.append(f"lines longer than {LINE_LIMIT} characters are ignored")
    return clean, warnings


def _bounded(warnings: tuple[str, ...]) -> tuple[str, ...]:
    if len(warnings) <= WARNING_LIMIT:
        return warnings
    return (*warnings[:WARNING_LIMIT], f"and {len(warnings) - WARNING_LIMIT} more")


def description_of(parts: Sequence[Section]) -> Section | None:
    """The section of that name, else what stands below the title."""
    named = next((part for part in parts if part.title.casefold() == "description"), None)
    return named or next((part for part in parts if part.level == 1), None)


def _description(parts: Sequence[Section]) -> str:
    part = description_of(parts)
    return prose(part.source) if part is not None else ""


def _sections(parts: Sequence[Section]) -> Iterator[CardSection]:
    for part in parts:
        text = "\n".join(line.rstrip() for line in part.source).strip("\n")
        if part.title or text:
            yield CardSection(part.level, part.title, text)


def _attributes(parts: Sequence[Section]) -> Attributes:
    """The first table under a heading about characteristics."""
    for part in parts:
        if part.has_word("characteristics"):
            for table in part.tables():
                return parse_attributes(table)
    return Attributes()


def _links(parts: Sequence[Section]) -> tuple[Link, ...]:
    found: dict[str, Link] = {}
    for part in parts:
        if any(word in part.title.casefold() for word in _LINK_PLACES):
            for text, url in links("\n".join(part.lines)):
                found.setdefault(url, Link(text, url))
    return tuple(found.values())


def _footnotes(parts: Sequence[Section]) -> tuple[tuple[str, str], ...]:
    lines = (
        line.strip()
        for part in parts
        for line in part.lines
        if ":" in line and len(line) <= LINE_LIMIT
    )
    found = (re.fullmatch(_FOOTNOTE, line) for line in lines)
    return tuple(dict.fromkeys((match[1], match[2]) for match in found if match))


def _shapes(parts: Sequence[Section]) -> Mapping[str, Shape]:
    for part in parts:
        if part.title.casefold().startswith("model shape"):
            for table in part.tables():
                return parse_shapes(table)
    return {}
