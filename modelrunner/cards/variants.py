"""The variants table: which rows are weights, and which of them `latest` is.

Columns are found by name, for they are not always six and not always in the same order. A table
without VRAM is a file listing with decimal sizes; with it, `GB` and `MB` are powers of 1024.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from modelrunner.cards import cells
from modelrunner.cards.card import Variant, tag_of
from modelrunner.cards.markdown import ROW_LIMIT, Section, Table, label, plain
from modelrunner.frozen import replace

_TITLE = r"(?i)(?:\S+\s+)?available model variants\b.*"
_NOTE = r">?\s*[`*]*(?:[\w./-]*:)?latest[`*]*\s*(?:→|⇒|➜|->|=>)\s*[`*:]*([^`*\s]+)"

_COLUMNS = {
    "model variant": "references",
    "model variants": "references",
    "variant": "references",
    "parameters": "parameters",
    "params": "parameters",
    "quantization": "quantization",
    "quantisation": "quantization",
    "quant": "quantization",
    "context window": "context",
    "context length": "context",
    "context": "context",
    "vram": "vram",
    "size": "size",
    "file size": "size",
}


class VariantsTable(NamedTuple):
    """What the variants section says.

    Attributes:
        note: The target of the line `latest → ...`.
        warnings: What the cells could not be read as.
    """

    variants: tuple[Variant, ...] = ()
    note: str | None = None
    warnings: tuple[str, ...] = ()


def parse_variants(sections: Sequence[Section]) -> VariantsTable:
    """The variants of the section made for them, else of the first table that looks like it."""
    found = [number for number, section in enumerate(sections) if _is_variants(section)]
    if not found:
        tables = (table for section in sections for table in section.tables())
        likely = next((table for table in tables if _looks_like_variants(table)), None)
        return VariantsTable() if likely is None else _read(likely, None)
    group = [sections[found[0]]]
    for section in sections[found[0] + 1 :]:
        if section.level <= group[0].level:
            break
        group.append(section)
    tables = (table for section in group for table in section.tables())
    table = next((table for table in tables if len(_columns(table)) > 1), None)
    lines = (line for section in group for line in section.lines)
    note = next((match[1] for line in lines if (match := re.match(_NOTE, line.strip()))), None)
    return VariantsTable(note=note) if table is None else _read(table, note)


def latest_of(variants: Sequence[Variant], note: str | None, name: str | None) -> str | None:
    """The reference that `latest` stands for: the row that holds the tag decides, then the note."""
    noted = tag_of(note) if note else None
    for variant in variants:
        if "latest" not in variant.tags:
            continue
        others = [ref for ref in variant.references if tag_of(ref) != "latest"]
        if others:
            return next((ref for ref in others if tag_of(ref) == noted), others[0])
        if note is None and len(variants) == 1:
            return variant.references[0]
        break
    return _noted(note, variants, name) if note else None


def _noted(note: str, variants: Sequence[Variant], name: str | None) -> str:
    """The note's target as a reference of the table, or completed to look like one."""
    references = [ref for variant in variants for ref in variant.references]
    named = next((ref for ref in references if tag_of(ref) == tag_of(note)), None)
    if named is not None or ":" in note:
        return named or note
    if references and ":" in references[0]:
        return f"{references[0].rpartition(':')[0]}:{note}"
    return f"ai/{name}:{note}" if name else note


def _is_variants(section: Section) -> bool:
    return section.level >= 2 and re.fullmatch(_TITLE, section.title) is not None  # noqa: PLR2004


def _columns(table: Table) -> Mapping[str, int]:
    """The place of each known column; the first of a name counts."""
    places: dict[str, int] = {}
    for place, title in enumerate(table.columns):
        name = _COLUMNS.get(label(title).partition(" (")[0])
        if name is not None:
            places.setdefault(name, place)
    return places


def _looks_like_variants(table: Table) -> bool:
    columns = _columns(table)
    return "references" in columns and "size" in columns and len(columns) > 2  # noqa: PLR2004


def _read(table: Table, note: str | None) -> VariantsTable:
    columns = _columns(table)
    units: cells.Units = "binary" if {"vram", "references"} & columns.keys() else "decimal"
    rows: list[tuple[tuple[str, ...], Variant]] = []
    by_reference: dict[str, int] = {}
    warnings: list[str] = []
    if len(table.rows) == ROW_LIMIT:
        warnings.append(f"rows after the first {ROW_LIMIT} are ignored")
    for row in table.rows:
        if not any(row) or any(cells.is_placeholder(cell) for cell in row):
            continue
        printed = {name: row[at] if at < len(row) else "" for name, at in columns.items()}
        variant = _variant(printed, units)
        others = tuple(plain(text) for name, text in printed.items() if name != "references")
        twin = next((by_reference[ref] for ref in variant.references if ref in by_reference), None)
        if twin is not None and rows[twin][0] == others:
            references = dict.fromkeys((*rows[twin][1].references, *variant.references))
            rows[twin] = (others, replace(rows[twin][1], references=tuple(references)))
            twin_at = twin
        else:
            twin_at = len(rows)
            rows.append((others, variant))
        for reference in variant.references:
            by_reference.setdefault(reference, twin_at)
        warnings.extend(_unreadable(variant, printed))
    return VariantsTable(tuple(variant for _, variant in rows), note, tuple(warnings))


def _variant(printed: Mapping[str, str], units: cells.Units) -> Variant:
    size, vram, context = (printed.get(name, "") for name in ("size", "vram", "context"))
    total, active = cells.parse_parameters(printed.get("parameters", ""))
    parameters_text = plain(printed.get("parameters", ""))
    context_text = plain(context)
    # the cards of one month had neither context nor VRAM, and sizes in powers of 1000
    decimal = units == "binary" and "-" == plain(vram) == plain(context)
    return Variant(
        references=cells.parse_references(printed.get("references", "")),
        parameters=total,
        parameters_text=parameters_text or None,
        parameters_active=active,
        quantization=cells.parse_quantization(printed.get("quantization", "")),
        context_text=context_text or None,
        context_tokens=cells.parse_context(context),
        vram_bytes=cells.parse_bytes(vram, "binary"),
        size_bytes=cells.parse_bytes(size, units),
        size_bytes_decimal=cells.parse_bytes(size, "decimal") if decimal else None,
    )


def _unreadable(variant: Variant, printed: Mapping[str, str]) -> list[str]:
    name = variant.references[0] if variant.references else variant.quantization or "a row"
    read = {
        "parameters": variant.parameters,
        "context": variant.context_tokens,
        "vram": variant.vram_bytes,
        "size": variant.size_bytes,
    }
    found: list[str] = []
    for column, value in read.items():
        cell = printed.get(column)
        if cell is None or cells.is_nothing(cell):
            continue
        if value is None:
            found.append(f"{name}: invalid {column} `{plain(cell)}`")
        elif column in ("vram", "size") and not cells.has_unit(cell):
            found.append(f"{name}: no unit in {column} `{plain(cell)}`, read as GB")
    context = printed.get("context", "")
    tokens = variant.context_tokens
    if tokens is not None and cells.context_is_rounded_otherwise(context, tokens):
        found.append(f"{name}: context `{plain(context)}` is read as {tokens} tokens")
    return found
