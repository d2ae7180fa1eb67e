"""`modelrunner list`."""

from collections import Counter
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.views.age import age
from modelrunner.oci.model.formats import GGUF
from modelrunner.operations.model.rows import (
    Row,
    names_of,
    row_of,
    rows,
    shown_of,
    with_capabilities,
    with_referrers,
)
from modelrunner.text import sanitize_line
from modelrunner.units import format_context, format_size

_HEADINGS = (
    "MODEL NAME",
    "PARAMETERS",
    "QUANTIZATION",
    "ARCHITECTURE",
    "MODEL ID",
    "CREATED",
    "CONTEXT",
    "SIZE",
)
_LONGEST_KINDS = 120
_LONGEST_FORMAT = 20
_DROPPED = ("CREATED", "ARCHITECTURE", "CONTEXT", "FORMAT", "PARAMETERS", "QUANTIZATION", "SIZE")


@command(
    examples="  modelrunner list\n  modelrunner list granite\n  modelrunner list -q\n"
    "  modelrunner list --capabilities\n  modelrunner list --referrers"
)
def list_models(
    context: Context,
    filter_: Annotated[
        str | None, Argument(metavar="[TEXT]", help="List only names that contain TEXT.")
    ] = None,
    capabilities: Annotated[
        bool,
        Option(
            "--capabilities",
            help="Show what each model can do: tools, thinking, images, audio, embeddings,"
            " reranking, drafts.",
        ),
    ] = False,
    referrers: Annotated[
        bool,
        Option(
            "--referrers",
            help="Show what is stored with each model: signatures, attestations, SBOMs.",
        ),
    ] = False,
) -> None:
    """List local models, one row per name; `-q` prints only their IDs."""
    json, quiet = context.console.json, context.console.quiet
    read = row_of if json else names_of if quiet else shown_of
    found = [row for row in rows(context.store, read) if _matches(row, filter_)]
    if capabilities and not context.console.quiet:
        found = with_capabilities(context.store, found)
    if referrers and not context.console.quiet:
        found = with_referrers(context.store, found)
    if context.console.json:
        context.console.emit([row.to_dict() for row in found])
    elif context.console.quiet:
        for row in found:
            context.console.print(_short(row.id))
    else:
        # most stores have models in GGUF alone
        formats = any((row.format or GGUF).lower() != GGUF for row in found)
        more = {"FORMAT": formats, "CAPABILITIES": capabilities, "REFERRERS": referrers}
        headings = (*_HEADINGS, *(name for name, is_shown in more.items() if is_shown))
        lines = [
            line for row in found for line in _lines(row, formats=formats, capable=capabilities)
        ]
        if context.console.columns is not None:
            # short, and as people write it; programs read what the model's config says
            lines = [tuple(cell.removeprefix("MOSTLY_") for cell in line) for line in lines]
        dropped = tuple(name for name in _DROPPED if name in headings)
        context.console.table(headings, lines, drop=dropped)
        if not found and filter_ is None:
            context.console.say(
                "no models in the local store yet: `modelrunner pull ai/smollm2` downloads one"
            )
        elif not found:
            context.console.say(f"no model in the local store has {filter_!r} in its name")


def _matches(row: Row, wanted: str | None) -> bool:
    return wanted is None or any(wanted.lower() in name.lower() for name in row.short_names)


def _lines(row: Row, *, formats: bool, capable: bool) -> list[tuple[str, ...]]:
    can = row.capabilities.listed if row.capabilities is not None else ""
    more = [sanitize_line(row.format or "", _LONGEST_FORMAT)] if formats else []
    more += [can] if capable else []
    if row.referrers is not None:
        counts = Counter(referrer.kind for referrer in row.referrers)
        kinds = (kind if count == 1 else f"{kind} x{count}" for kind, count in counts.items())
        more.append(sanitize_line(", ".join(kinds), _LONGEST_KINDS))
    return [
        (
            name,
            row.parameters or "",
            row.quantization or "",
            row.architecture or (f"({row.problem})" if row.problem else ""),
            _short(row.id),
            age(row.created),
            format_context(row.context_length) if row.context_length else "",
            format_size(row.size_bytes) if row.size_bytes is not None else "",
            *more,
        )
        for name in row.short_names or ("<none>",)
    ]


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
