#!/usr/bin/env python3
"""Makes the tables of the model cards from `facts.json`; prose between the tables is left alone.

    python cards/make.py            rewrite what is stale
    python cards/make.py --check    say what is stale, exit 1 if anything is

A card has three made blocks, each between `<!-- NAME -->` and `<!-- /NAME -->`:

    facts    characteristics, variants, model shape
    doubts   what the program's own checks find odd in the rows
    scores   benchmarks and links
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelrunner.cards.catalog import Catalog
from modelrunner.cards.checks import compare
from modelrunner.cards.parser import parse_card
from modelrunner.cards.shapes import FIELDS, format_value

FOLDER = Path(__file__).resolve().parent
Facts = Mapping[str, Any]

_ATTRIBUTES = {
    "Provider": "provider",
    "Architecture": "architecture",
    "Cutoff date": "cutoff_date",
    "Languages": "languages",
    "Tool calling": "tool_calling",
    "Input modalities": "input_modalities",
    "Output modalities": "output_modalities",
    "License": "license",
}
_VARIANT_COLUMNS = (
    *("Model variant", "Parameters", "Quantization", "Context window", "VRAM¹", "Size"),
)
_FOOTNOTE = (
    "¹: VRAM is an estimate for 4,096 tokens of context, whatever the context window of the row."
)


def stale(folder: Path = FOLDER) -> Iterator[tuple[Path, str]]:
    """The cards that are not what the facts make of them, with the text that they should have."""
    facts: Sequence[Facts] = json.loads((folder / "facts.json").read_text("utf-8"))
    made = {card["name"]: made_facts(card) for card in facts}
    parsed = {name: parse_card(f"# {name}\n\n{text}", name=name) for name, text in made.items()}
    for card in facts:
        name = card["name"]
        path = folder / f"{name}.md"
        others = (other for other in parsed.values() if other.name != name)
        repeated = (sentence for other in others for sentence in compare(parsed[name], other))
        blocks = {
            "facts": made[name],
            "doubts": made_doubts([*parsed[name].warnings, *repeated]),
            "scores": made_scores(card),
        }
        text = path.read_text("utf-8") if path.exists() else _skeleton(card)
        for block, content in blocks.items():
            text = _replaced(text, block, content)
        if not path.exists() or path.read_text("utf-8") != text:
            yield path, text
    for name in Catalog.load(folder).names():
        if name not in made:
            raise SystemExit(f"{name}.md: has no facts in facts.json")


def made_facts(card: Facts) -> str:
    """Characteristics, variants and shape."""
    parts = [_heading("Characteristics", _attributes(card))]
    rows = [_variant(variant) for variant in card["variants"]]
    variants = f"{_table(_VARIANT_COLUMNS, rows)}\n\n{_FOOTNOTE}"
    if card["latest"]:
        variants += f"\n\n> `latest` → `{card['latest'].rpartition(':')[2]}`"
    parts.append(_heading("Available model variants", variants))
    if card.get("shapes"):
        parts.append(_heading("Model shape", _shapes(card["shapes"])))
    return "\n\n".join(parts)


def made_doubts(sentences: Iterable[str]) -> str:
    """What the checks say against the rows."""
    items = "\n".join(f"- {_quoted(sentence)}" for sentence in dict.fromkeys(sentences))
    return _heading("Doubtful facts", items) if items else ""


def made_scores(card: Facts) -> str:
    """Benchmarks as printed by the maker, and where to read on."""
    parts: list[str] = []
    for benchmark in card.get("benchmarks", ()):
        rows = [[cell or "" for cell in row] for row in benchmark["rows"]]
        parts.append(_heading("Benchmark performance", _table(benchmark["columns"], rows)))
    links = "\n".join(f"- [{link['text']}]({link['url']})" for link in card.get("links", ()))
    if links:
        parts.append(_heading("Links", links))
    return "\n\n".join(parts)


def _attributes(card: Facts) -> str:
    rows: list[tuple[str, str]] = []
    for title, key in _ATTRIBUTES.items():
        value = card["attributes"].get(key)
        if value is None:
            continue
        if isinstance(value, bool):
            value = "Yes" if value else "No"
        elif isinstance(value, list):
            value = ", ".join(value)
        elif key == "license" and card["attributes"].get("license_url"):
            value = f"[{value}]({card['attributes']['license_url']})"
        rows.append((f"**{title}**", value))
    return _table(("Attribute", "Details"), rows)


def _variant(variant: Facts) -> tuple[str, ...]:
    return (
        "<br>".join(f"`{reference}`" for reference in variant["references"]),
        variant["parameters"],
        variant["quantization"],
        f"{variant['context']:,} tokens",
        variant["vram"],
        variant["size"],
    )


def _shapes(shapes: Mapping[str, Facts]) -> str:
    used = {key for shape in shapes.values() for key in shape}
    rows = [
        (title, *(_shape_cell(shape.get(key)) for shape in shapes.values()))
        for title, key in FIELDS.items()
        if key in used
    ]
    return _table(("Shape", *shapes), rows)


def _shape_cell(value: object) -> str:
    if isinstance(value, list):
        return format_value(tuple(value))
    return format_value(value if isinstance(value, int | str) else None)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["-" * 3 for _ in columns], *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    lines[1] = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _quoted(sentence: str) -> str:
    """The reference that a sentence begins with between backticks."""
    reference, colon, rest = sentence.partition(": ")
    return f"`{reference}`{colon}{rest}" if colon and "/" in reference else sentence


def _heading(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _skeleton(card: Facts) -> str:
    blocks = "\n\n".join(
        f"<!-- {name} -->\n<!-- /{name} -->" for name in ("facts", "doubts", "scores")
    )
    return f"# {card['title']}\n\n## Description\n\n{blocks}\n"


def _replaced(text: str, block: str, content: str) -> str:
    start, end = f"<!-- {block} -->", f"<!-- /{block} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"no block {start} ... {end} in {text.splitlines()[0]}")
    return (
        f"{before}{start}\n\n{content}\n\n{end}{after}"
        if content
        else f"{before}{start}\n{end}{after}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the stale cards, or name them."""
    parser = argparse.ArgumentParser(description="make the tables of the model cards")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 when stale")
    options = parser.parse_args(arguments)
    found = list(stale())
    for path, text in found:
        sys.stdout.write(f"{'stale' if options.check else 'made'}: {path.name}\n")
        if not options.check:
            path.write_text(text, "utf-8")
    return 1 if options.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
