"""`modelrunner discover`."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.frozen import replace
from modelrunner.oci.manifest import Index
from modelrunner.operations.trust.attach import find_subject
from modelrunner.operations.trust.discover import Discovered, Found, discover, title_of
from modelrunner.text import sanitize_line
from modelrunner.units import format_size

_LONGEST = 100


@command(
    examples="  modelrunner discover ai/smollm2\n"
    "  modelrunner discover ghcr.io/team/model:1 --type signature --json\n"
    "  modelrunner discover team/model:1 --offline"
)
def discover_referrers(
    context: Context,
    reference: Annotated[
        str, Argument(metavar="REF", help="Name or ID of a model, local or in its registry.")
    ],
    kind: Annotated[
        str | None,
        Option(
            "--type",
            metavar="TYPE",
            help="Only those of a kind, such as signature, attestation or SBOM, or of a media"
            " type.",
        ),
    ] = None,
) -> None:
    """List what refers to a model: signatures, attestations, SBOMs, licenses, cards.

    What refers to one of these in turn is shown below it.
    """
    subject = find_subject(context.store, context.source_for, reference, remote=not context.offline)
    ask = None if context.offline else context.registries.referrers_of
    inside = subject.manifest.manifests if isinstance(subject.manifest, Index) else ()
    digest = subject.descriptor.digest
    found = discover(context.store, ask, subject.name, digest, manifests=inside)
    if kind is not None:
        found = _of_kind(found, kind)
    if context.console.json:
        name = None if subject.name is None else str(subject.name)
        context.console.emit({"reference": name, **found.to_dict()})
        return
    for problem in found.problems:
        context.console.warn(problem)
    if context.console.quiet:
        for one in _flat(found):
            context.console.print(str(one.referrer.digest))
        return
    rows = [*_rows(found.found)]
    for descriptor, inner in found.manifests:
        rows.append(("manifest", descriptor.media_type, descriptor.digest.short, "", "", ""))
        rows += _rows(inner, 1)
    if not rows:
        of_type = "" if kind is None else f" of type {sanitize_line(kind, _LONGEST)}"
        context.console.say(f"nothing{of_type} refers to {subject.shown}")
        return
    headings = ("KIND", "TYPE", "DIGEST", "SIZE", "FILE", "PLACES")
    context.console.table(headings, rows, drop=("FILE", "TYPE", "SIZE"))


def _rows(found: Sequence[Found], depth: int = 0) -> Iterator[tuple[str, ...]]:
    """Return the rows of a tree: what refers to something is below it, on a branch."""
    for one in found:
        yield (
            _branch(depth) + sanitize_line(one.referrer.kind, _LONGEST),
            sanitize_line(one.referrer.artifact_type, _LONGEST),
            one.referrer.digest.short,
            format_size(one.referrer.size),
            sanitize_line(title_of(one.referrer) or "", _LONGEST),
            ", ".join(one.places),
        )
        yield from _rows(one.found, depth + 1)


def _branch(depth: int) -> str:
    return f"└{'──' * (depth - 1)} " if depth else ""


def _flat(found: Discovered) -> Iterator[Found]:
    groups = [found.found, *(inner for _descriptor, inner in found.manifests)]
    waiting = [one for group in groups for one in group]
    while waiting:
        one = waiting.pop(0)
        yield one
        waiting[:0] = one.found


def _of_kind(found: Discovered, kind: str) -> Discovered:
    wanted = kind.lower()
    chosen = [
        one._replace(found=())
        for one in _flat(found)
        if wanted in (one.referrer.kind.lower(), one.referrer.artifact_type.lower())
    ]
    return replace(found, found=chosen, manifests=())
