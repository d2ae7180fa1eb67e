"""`modelrunner discover`."""

from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.operations.trust.attach import find_subject
from modelrunner.operations.trust.discover import Discovered, discover, title_of
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
    """List what refers to a model: signatures, attestations, SBOMs, licenses, cards."""
    subject = find_subject(context.store, context.source_for, reference, remote=not context.offline)
    ask = None if context.offline else context.registries.referrers_of
    found = discover(context.store, ask, subject.name, subject.descriptor.digest)
    if kind is not None:
        found = _of_kind(found, kind)
    if context.console.json:
        name = None if subject.name is None else str(subject.name)
        context.console.emit({"reference": name, **found.to_dict()})
        return
    for problem in found.problems:
        context.console.warn(problem)
    if context.console.quiet:
        for referrer, _places in found.found:
            context.console.print(str(referrer.digest))
        return
    headings = ("KIND", "TYPE", "DIGEST", "SIZE", "FILE", "PLACES")
    rows = [
        (
            sanitize_line(referrer.kind, _LONGEST),
            sanitize_line(referrer.artifact_type, _LONGEST),
            referrer.digest.short,
            format_size(referrer.size),
            sanitize_line(title_of(referrer) or "", _LONGEST),
            ", ".join(places),
        )
        for referrer, places in found.found
    ]
    context.console.table(headings, rows, drop=("FILE", "TYPE", "SIZE"))
    if not rows:
        of_type = "" if kind is None else f" of type {sanitize_line(kind, _LONGEST)}"
        context.console.say(f"nothing{of_type} refers to {subject.shown}")


def _of_kind(found: Discovered, kind: str) -> Discovered:
    wanted = kind.lower()
    return Discovered(
        found.digest,
        [
            entry
            for entry in found.found
            if wanted in (entry[0].kind.lower(), entry[0].artifact_type.lower())
        ],
        found.problems,
    )
