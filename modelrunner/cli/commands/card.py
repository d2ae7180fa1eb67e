"""`modelrunner card` and `modelrunner cards`."""

from pathlib import Path
from typing import Annotated

import typer

from modelrunner.cards.card import Card
from modelrunner.cards.catalog import Catalog
from modelrunner.cards.parser import read_card
from modelrunner.cli.card_view import card_text, render_card
from modelrunner.cli.context import Context, command
from modelrunner.text import sanitize_line
from modelrunner.units import format_context, format_size


@command(examples="  modelrunner card ai/granite-4.0-micro\n  modelrunner card README.md --json")
def card(context: Context, subject: Annotated[str, typer.Argument(metavar="REF|FILE")]) -> None:
    """Show a model card: rendered on a terminal, its facts with --json."""
    path = Path(subject)
    found = read_card(path) if path.is_file() else Catalog.load().find(subject)
    if context.console.json:
        context.console.emit(found.to_dict())
    elif context.console.out.isatty() and context.console.bars:
        from rich.console import Console as RichConsole

        render_card(
            found, RichConsole(file=context.console.out, no_color=not context.console.colour)
        )
    else:
        context.console.print(card_text(found))


@command(examples="  modelrunner cards\n  modelrunner cards granite --json")
def cards(
    context: Context,
    search: Annotated[str | None, typer.Argument(metavar="[SEARCH]")] = None,
) -> None:
    """List the catalogue: every card with its variants."""
    found = list(Catalog.load().search(search or ""))
    if context.console.json:
        context.console.emit([entry.to_dict() for entry in found])
        return
    if not found:
        context.console.say(f"no card matches {sanitize_line(search or '', 100)!r}")
    rows = [row for entry in found for row in _rows(entry)]
    headings = ("MODEL", "PARAMETERS", "QUANTIZATION", "CONTEXT", "VRAM", "SIZE", "TOOLS")
    context.console.table(headings, rows)


def _rows(found: Card) -> list[tuple[str, ...]]:
    tools = {True: "yes", False: "no"}.get(found.attributes.tool_calling or False, "")
    tools = tools if found.attributes.tool_calling is not None else ""
    return [
        (
            variant.references[0] if variant.references else found.name or "",
            variant.parameters_text or "",
            variant.quantization or "",
            format_context(variant.context_tokens) if variant.context_tokens else "",
            format_size(variant.vram_bytes) if variant.vram_bytes is not None else "",
            format_size(variant.size_bytes) if variant.size_bytes is not None else "",
            tools,
        )
        for variant in found.variants
    ] or [(f"ai/{found.name}", "", "", "", "", "", tools)]
