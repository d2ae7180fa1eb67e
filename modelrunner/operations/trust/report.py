"""What there is to know before a model is trusted: where it is from, and who has signed it."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from modelrunner.cards.card import Card
from modelrunner.errors import CorruptStoreError, MalformedGGUFError, ModelRunnerError
from modelrunner.gguf.header import Header
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.model.formats import GGUF
from modelrunner.oci.model.layers import Role
from modelrunner.oci.reference import Reference
from modelrunner.operations.trust.discover import Discovered, asked_once, discover
from modelrunner.operations.trust.material import Material
from modelrunner.operations.trust.signatures import (
    Ask,
    Checked,
    Signers,
    StoredPlace,
    signatures_of,
)
from modelrunner.provenance.policy import Policy, Rule, read_policy
from modelrunner.provenance.template import Finding, scan
from modelrunner.runtime.packaged import Packaged
from modelrunner.store.store import Store

_TEMPLATE = "tokenizer.chat_template"
_TEMPLATE_LIMIT = 1024 * 1024
_LICENSES = ("general.license", "general.license.name", "general.license.link")
_SOURCES = (
    "general.source.url",
    "general.repo_url",
    "general.url",
    "general.base_model.0.repo_url",
)


@dataclass(frozen=True, slots=True)
class Signatures:
    """What a registry keeps of a model.

    Attributes:
        found: Each signature and attestation; None where it was not looked for.
        problem: Why not.
        rule: What the policy asks for.
    """

    found: Sequence[Checked] | None
    problem: str | None
    rule: Rule


def signatures_for(
    policy_file: Path | None,
    store: Store,
    referrers_of: Ask | None,
    reference: Reference | None,
    manifest: Manifest | Index,
    asked: Signers,
) -> Signatures:
    """Return what is kept of a model, compared with the signers asked for, or a policy.

    Args:
        policy_file: `verify.toml`, if there is one; it counts where no signer is asked for.
        store: Asked first.
        referrers_of: Opens the other places that keep signatures; None where the network is ruled
            out.
        reference: The model's name; None where it has none.
        manifest: The model.
        asked: Who should have signed.

    Raises:
        ConfigError: The policy or a key is malformed.
    """
    policy = Policy("off", ()) if policy_file is None else read_policy(policy_file)
    rule = Rule("*", policy.default) if reference is None else policy.rule_for(reference)
    signers = asked if asked.are_named else Signers.of(rule)
    signers = replace(signers, offline=referrers_of is None)
    stored = signatures_of([StoredPlace.of(store)], manifest, signers)
    problem = None
    if reference is None:
        problem = "not checked: the model has no name, so its registry is unknown"
    elif referrers_of is None:
        problem = "not checked: --offline is set"
    else:
        try:
            found = signatures_of(referrers_of(reference), manifest, signers)
        except ModelRunnerError as exc:
            problem = exc.message
        else:
            # what both of them keep is reported once
            both = {entry.evidence or entry.problem: entry for entry in (*stored, *found)}
            return Signatures(list(both.values()), None, rule)
    # what came with the model is known all the same
    return Signatures(stored or None, problem, rule)


@dataclass(frozen=True, slots=True)
class Security:
    """Who has signed a model, and what else refers to it.

    Attributes:
        signatures: Each signature and attestation.
        discovered: All that refers to it.
    """

    signatures: Signatures
    discovered: Discovered

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        referrers = [each.facts() for each in self.discovered.found]
        return {**_signatures(self.signatures), "referrers": referrers}


def security_of(
    policy_file: Path | None,
    store: Store,
    referrers_of: Ask | None,
    reference: Reference | None,
    manifest: Manifest | Index,
    asked: Signers,
) -> Security:
    """Return who has signed a model and what refers to it, for which each place is asked once.

    The arguments and errors are those of `signatures_for`.
    """
    with ExitStack() as stack:
        ask = None if referrers_of is None else stack.enter_context(asked_once(referrers_of))
        found = discover(store, ask, reference, manifest.digest, deepest=1)
        signatures = signatures_for(policy_file, store, ask, reference, manifest, asked)
    return Security(signatures, found)


@dataclass(frozen=True, slots=True)
class Tested:
    """What a policy does with a model, and why.

    Attributes:
        digest: The model.
        rule: The rule that is for it.
        found: Each signature and attestation, compared with the rule's signers.
        problem: Why not everything was looked at; None where it was.
    """

    digest: Digest
    rule: Rule
    found: Sequence[Checked]
    problem: str | None

    @property
    def is_signed(self) -> bool:
        """Whether there is a valid signature of a signer of the rule."""
        return any(entry.counts for entry in self.found)

    @property
    def passes(self) -> bool:
        """Whether a pull of the model would succeed."""
        return self.rule.mode != "enforce" or self.is_signed

    @property
    def verdict(self) -> str:
        """The result as a phrase."""
        if self.rule.mode == "off":
            return "passes: no rule asks for a signature"
        if self.is_signed:
            return "passes: signed by a trusted signer"
        if self.rule.mode == "warn":
            return "passes with a warning: no valid signature"
        return "refused: no valid signature"

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON has it."""
        return {
            "digest": str(self.digest),
            "match": self.rule.match,
            "mode": self.rule.mode,
            "passes": self.passes,
            "signatures": _checked_to_dicts(self.found, signatures=True),
            "attestations": _checked_to_dicts(self.found, signatures=False),
            "problem": self.problem,
        }


def tested(
    policy_file: Path | None,
    store: Store,
    referrers_of: Ask | None,
    reference: Reference | None,
    manifest: Manifest | Index,
) -> Tested:
    """Return what the policy does with a model, and why; see `signatures_for`.

    Raises:
        ConfigError: The policy or a key is malformed.
    """
    found = signatures_for(policy_file, store, referrers_of, reference, manifest, Signers())
    digest = Digest.of(manifest.raw)
    return Tested(digest, found.rule, tuple(found.found or ()), found.problem)


def assess(
    model: Material, card: Card | None, security: Callable[[], Security]
) -> dict[str, object]:
    """Everything about a model that counts before it is trusted, as JSON has it."""
    headers, gguf = _headers(model)
    first = headers[0] if headers else None
    packaged = Packaged.read(model.config.settings)
    return {
        "id": str(model.digest),
        "references": [str(name) for name in model.references],
        "origin": {
            "registries": sorted({name.registry for name in model.references}),
            "says": {key: first.metadata[key] for key in _SOURCES if _has(first, key)}
            if first is not None
            else {},
            "annotations": dict(model.artifact.manifest.annotations),
        },
        "license": _license(model, first, card),
        "gguf": gguf,
        "chat_templates": _templates(model, first),
        "packaged": packaged.with_context(model.config.context_size).to_dict(),
        **security().to_dict(),
    }


def _headers(model: Material) -> tuple[list[Header], list[dict[str, object]]]:
    """Every weights file's header, read with the limits that a runtime does not have."""
    headers: list[Header] = []
    entries: list[dict[str, object]] = []
    for layer in model.artifact.layers:
        if layer.role not in (Role.WEIGHTS, Role.PROJECTOR) or layer.format != GGUF:
            continue
        entry: dict[str, object] = {"file": str(layer.path), "role": str(layer.role)}
        try:
            header = model.header(layer)
        except (MalformedGGUFError, CorruptStoreError, OSError) as exc:
            entries.append({**entry, "within_bounds": False, "problem": str(exc)})
            continue
        if layer.role is Role.WEIGHTS:
            headers.append(header)
        entries.append({**entry, "within_bounds": True, "tensors": len(header.tensors)})
    return headers, entries


def _has(header: Header | None, key: str) -> bool:
    return header is not None and isinstance(header.metadata.get(key), str)


def _license(model: Material, header: Header | None, card: Card | None) -> dict[str, object]:
    files = [str(layer.path) for layer in model.artifact.licenses]
    said = {key: header.metadata[key] for key in _LICENSES if _has(header, key)} if header else {}
    return {
        "files": files,
        "header": said,
        "card": card.attributes.license if card is not None else None,
    }


def _templates(model: Material, header: Header | None) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    layer = model.artifact.template
    if layer is not None:
        try:
            raw = model.front(layer, _TEMPLATE_LIMIT)
            found.append(_scanned(str(layer.path), raw.decode(errors="replace")))
        except OSError as exc:
            found.append({"from": str(layer.path), "problem": exc.strerror})
    for key, value in (header.metadata if header is not None else {}).items():
        if key.startswith(_TEMPLATE) and isinstance(value, str):
            found.append(_scanned(key, value))
    return found


def _scanned(place: str, template: str) -> dict[str, object]:
    findings: tuple[Finding, ...] = scan(template)
    return {
        "from": place,
        "characters": len(template),
        "findings": [finding.to_dict() for finding in findings],
    }


def _signatures(found: Signatures) -> dict[str, object]:
    return {
        "signatures": _checked_to_dicts(found.found, signatures=True),
        "attestations": _checked_to_dicts(found.found, signatures=False),
        "signatures_problem": found.problem,
        "policy": {
            "match": found.rule.match,
            "mode": found.rule.mode,
            "satisfied": None
            if found.rule.mode == "off" or found.found is None
            else any(entry.counts for entry in found.found),
        },
    }


def _checked_to_dicts(
    found: Sequence[Checked] | None, *, signatures: bool
) -> list[dict[str, object]] | None:
    if found is None:
        return None
    return [entry.to_dict() for entry in found if entry.is_signature == signatures]
