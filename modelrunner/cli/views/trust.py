"""The policy, and what came of a test of it, for people and for scripts."""

from collections.abc import Iterator

from modelrunner.operations.trust.report import Tested
from modelrunner.provenance.policy import Policy, Rule
from modelrunner.text import sanitize_line

_LONGEST = 200


def rule_to_dict(rule: Rule) -> dict[str, object]:
    """Return a rule as JSON has it."""
    return {
        "match": rule.match,
        "mode": rule.mode,
        "keys": [str(key) for key in rule.keys],
        "ca": [str(file) for file in rule.ca],
        "tsa": [str(file) for file in rule.tsa],
        "identity": rule.identity,
        "issuer": rule.issuer,
        "trusted_root": None if rule.trusted_root is None else str(rule.trusted_root),
    }


def rule_rows(policy: Policy) -> list[tuple[str, str, str]]:
    """Return the rows of a table of rules; the last is for models that no rule is for."""
    rows = [(_shown(rule.match), rule.mode, _signers(rule)) for rule in policy.rules]
    return [*rows, ("(all others)", policy.default, "")]


def tested_lines(name: str, found: Tested) -> Iterator[str]:
    """Return what came of a test, as lines: the rule, each signature, the verdict."""
    rule = found.rule
    yield f"rule: {_shown(rule.match)} {rule.mode}" + (
        f" ({_signers(rule)})" if rule.names_signer else ""
    )
    for entry in found.found:
        form = "unreadable" if entry.evidence is None else entry.evidence.form
        kind = "signature" if entry.is_signature else "attestation"
        result = f"valid, {entry.by}" if entry.by is not None else f"not valid: {entry.problem}"
        yield f"{kind} ({form}): {_shown(result)}"
    if not found.found:
        yield "signatures: none found"
    if found.problem is not None:
        yield f"not everything was checked: {_shown(found.problem)}"
    yield f"{name}: {found.verdict}"


def _signers(rule: Rule) -> str:
    said = [f"key {key.name}" for key in rule.keys]
    said += [f"CA {file.name}" for file in rule.ca]
    if rule.identity is not None:
        said.append(rule.identity + (f" by {rule.issuer}" if rule.issuer else ""))
    return _shown(", ".join(said))


def _shown(text: str) -> str:
    return sanitize_line(text, _LONGEST)
