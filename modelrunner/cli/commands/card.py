"""`modelrunner card` and `modelrunner cards`."""

import stat
from pathlib import Path
from typing import Annotated

from modelrunner.cards.catalog import Catalog
from modelrunner.cards.parser import read_card
from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.views.age import age
from modelrunner.cli.views.card import card_text, render_card
from modelrunner.errors import InvalidReferenceError, UsageError
from modelrunner.oci.reference import Reference, is_whole_id, match_id
from modelrunner.operations.catalog.card_source import CardSource, FoundCard
from modelrunner.operations.catalog.cards import (
    CardFilter,
    Offer,
    Order,
    Room,
    marks,
    offers,
    to_dicts,
)
from modelrunner.operations.estimate.card_check import stored_differences
from modelrunner.text import os_hint, os_reason, sanitize_line
from modelrunner.units import SIZE_HINT, format_context, format_size, parse_size

_BUDGET = "Fit into this much memory, such as 8GiB, instead of this machine's."
_FITS = {"fits": "yes", "partial": "partly", "maybe": "maybe", "no": "no"}


@command(
    examples="  modelrunner card ai/granite-4.0-micro\n"
    "  modelrunner card ai/qwen3 --budget 8GiB\n"
    "  modelrunner card README.md --json"
)
def card(
    context: Context,
    subject: Annotated[
        str, Argument(metavar="REF|FILE", help="Model, or a Markdown file with a card.")
    ],
    budget: Annotated[str | None, Option(metavar="SIZE", help=_BUDGET)] = None,
) -> None:
    """Show a model card: rendered on a terminal, its facts with --json."""
    room = _size("--budget", budget)
    path = _file(subject)
    found = _of_file(path) if path else card_source(context).find(_reference(context, subject))
    shown = found.to_dict()
    if found.problem:
        old = age(str(shown["fetched"]))
        context.console.warn(f"{found.name}: showing the card cached {old}: {found.problem}")
    against = stored_differences(context.store, found.card)
    if context.console.json:
        shown["differences"] = [{"reference": name, **entry.to_dict()} for name, entry in against]
        if room is not None:
            shown["variants"] = to_dicts(offers([found.card], CardFilter(room=room)))[0]["variants"]
        context.console.emit(shown)
        return
    said = marks(found.card, _room(context, room))
    if context.console.out.isatty() and context.console.bars:
        from rich.console import Console as RichConsole

        terminal = RichConsole(file=context.console.out, no_color=not context.console.colour)
        render_card(found.card, terminal, said, found.name)
    else:
        context.console.print(card_text(found.card, said, found.name))
    for name, entry in against:
        context.console.print(
            sanitize_line(f"{name} in the local store differs from the card: {entry.sentence}")
        )


@command(
    examples="  modelrunner cards\n"
    "  modelrunner cards granite --json\n"
    "  modelrunner cards --fits --tools --license apache --sort size\n"
    "  modelrunner cards --budget 8GiB --max-size 4GiB"
)
def cards(
    context: Context,
    search: Annotated[
        str | None,
        Argument(
            metavar="[SEARCH]", help="Words that a card must contain (default: list all cards)."
        ),
    ] = None,
    fits: Annotated[
        bool, Option("--fits", help="List only variants that fit this machine.")
    ] = False,
    tools: Annotated[bool, Option("--tools", help="List only models that can call tools.")] = False,
    license_: Annotated[
        str | None,
        Option("--license", metavar="TEXT", help="List only models whose license contains TEXT."),
    ] = None,
    max_size: Annotated[
        str | None,
        Option(metavar="SIZE", help="List only variants of at most this size, such as 4GiB."),
    ] = None,
    sort: Annotated[Order, Option(help="Sort by this column, smallest first.")] = Order.NAME,
    budget: Annotated[str | None, Option(metavar="SIZE", help=_BUDGET)] = None,
) -> None:
    """List the built-in catalog: every card with its variants."""
    room = _size("--budget", budget)
    asked = fits or room is not None
    wanted = CardFilter(
        tools=tools,
        license=license_,
        max_size=_size("--max-size", max_size),
        room=_room(context, room) if asked else None,
        fits=fits,
        order=sort,
    )
    matching = list(Catalog.load().search(search or ""))
    found = offers(matching, wanted)
    if context.console.json:
        context.console.emit(to_dicts(found))
        return
    if not matching:
        context.console.say(f"no card matches {sanitize_line(search or '', 100)!r}")
    elif not found:
        context.console.say("no variant matches: remove or relax a filter")
    headings = ("MODEL", "PARAMETERS", "QUANTIZATION", "CONTEXT", "VRAM", "SIZE", "TOOLS")
    fit = ("FITS",) if asked else ()
    rows = [_row(offer)[: 8 if asked else 7] for offer in found]
    dropped = ("TOOLS", "VRAM", "PARAMETERS", "CONTEXT", "QUANTIZATION")
    context.console.table((*headings, *fit), rows, drop=dropped)


def card_source(context: Context) -> CardSource:
    """Return the source of cards of this process."""
    return CardSource(
        Catalog.load(),
        context.settings.cards,
        None if context.offline else lambda name: _describe(context, name),
        own=lambda name: _own(context, name),
    )


def _own(context: Context, reference: Reference) -> str | None:
    # most cards are in the catalog
    from modelrunner.operations.catalog.own_card import own_card

    model = context.store.find(reference)
    return None if model is None else own_card(context.store, model)


def _describe(context: Context, reference: Reference) -> str:
    # only a card that is not here pays for the network
    from modelrunner.registry.docker_hub import DockerHubApi, docker_hub_endpoint

    settings = context.settings
    context.console.say(f"asking Docker Hub about {reference.repository}")
    return DockerHubApi(
        docker_hub_endpoint(settings.hub_api, ca_file=settings.ca_file)
    ).description(reference)


def _file(subject: str) -> Path | None:
    """Return the path of a readable file or pipe; None if there is none."""
    path = Path(subject)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        # no such file, or a name that none can have
        return None
    return None if stat.S_ISDIR(mode) else path


def _of_file(path: Path) -> FoundCard:
    try:
        return FoundCard(read_card(path), "", "file")
    except OSError as exc:
        raise UsageError(
            f"cannot read {path}: {os_reason(exc)}", hint=os_hint(exc), path=str(path)
        ) from exc


def _reference(context: Context, subject: str) -> Reference:
    """Return the reference that a name, or the ID of a stored model, stands for."""
    if match_id(subject):
        stored = context.store.lookup(subject)
        if stored is None and is_whole_id(subject):
            stored = context.store.resolve(subject)
        if stored is not None and stored.references:
            return stored.references[0]
    try:
        return Reference.parse(subject)
    except InvalidReferenceError as exc:
        if subject.startswith((".", "/", "~")) or subject.lower().endswith(".md"):
            raise UsageError(
                f"{sanitize_line(subject, 200)}: file not found",
                hint="name a card file, or a model: `modelrunner card ai/smollm2`",
            ) from exc
        raise


def _room(context: Context, budget: int | None) -> Room:
    return context.workspace.machine.devices if budget is None else budget


def _size(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as exc:
        raise UsageError(f"{option}: {exc}", hint=SIZE_HINT) from exc


def _row(offer: Offer) -> tuple[str, ...]:
    variant = offer.variant
    facts = ("", "", "", "", "")
    if variant is not None:
        context, vram, size = variant.context_tokens, variant.vram_bytes, variant.size_bytes
        facts = (
            variant.parameters_text or "",
            variant.quantization or "",
            format_context(context) if context else "",
            format_size(vram) if vram is not None else "",
            format_size(size) if size is not None else "",
        )
    tools = {True: "yes", False: "no", None: ""}[offer.card.attributes.tool_calling]
    return (offer.name, *facts, tools, _FITS.get(offer.verdict or "", "unknown"))
