"""Views of who has signed a model, and of what else refers to it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from modelrunner.cli.terminal.console import Console
from modelrunner.oci.referrers import Referrer
from modelrunner.text import sanitize_line
from modelrunner.units import format_size

# most ask only for what the store keeps
if TYPE_CHECKING:
    from modelrunner.operations.trust.report import Security

_LONGEST = 200


def show_security(
    console: Console, kept: Sequence[Referrer] | None, found: "Security | None"
) -> None:
    """Print who has signed a model where that was asked for, else what the local store keeps.

    Args:
        console: The terminal.
        kept: What refers to it, of the local store.
        found: Who has signed it; None where that was not asked for.
    """
    if found is not None:
        for line in _security_lines(found):
            console.print(line, filled=True)
    elif kept:
        kinds = Counter(_named(each) for each in kept)
        said = ", ".join(f"{kind} ({n})" if n > 1 else kind for kind, n in kinds.items())
        console.print(f"attached: {said}; --security says who has signed it", filled=True)


def _security_lines(found: "Security") -> Iterator[str]:
    checked = found.signatures.found or ()
    for entry in checked:
        kind = "signed" if entry.is_signature else "attested"
        what = "signature" if entry.is_signature else "attestation"
        form = f" ({entry.evidence.form})" if entry.evidence is not None else ""
        if entry.by is not None:
            yield f"{kind} by {sanitize_line(entry.by, _LONGEST)}"
        else:
            yield f"{what}{form} not verified: {sanitize_line(entry.problem or '', _LONGEST)}"
    if not any(entry.is_signature for entry in checked):
        yield "not signed" if found.signatures.problem is None else "no signature found"
    for problem in dict.fromkeys([found.signatures.problem, *found.discovered.problems]):
        if problem is not None:
            yield f"note: {sanitize_line(problem, _LONGEST)}"
    rule = found.signatures.rule
    if rule.mode != "off":
        satisfied = any(entry.counts for entry in checked)
        verdict = "satisfied" if satisfied else "not satisfied"
        yield f"policy: {rule.mode} for {sanitize_line(rule.match, _LONGEST)}: {verdict}"
    for each in found.discovered.found:
        where = sanitize_line(", ".join(each.places), _LONGEST)
        size = format_size(each.referrer.size)
        yield f"attached: {_named(each.referrer)}, {size}, in {where}"


def _named(referrer: Referrer) -> str:
    return sanitize_line(referrer.kind, _LONGEST)
