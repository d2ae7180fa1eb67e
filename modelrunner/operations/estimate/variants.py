"""Variants: every model of a repository with what it needs, and which of them to take.

A tag is only a name: each manifest is looked at once, with all its tags. The headers of the first
dozen are read by ranges; for more, and for what cannot be read, the card's row has to do. All are
compared at the same context.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from modelrunner.cards.card import Card, Variant
from modelrunner.errors import (
    CacheTypeError,
    IntegrityError,
    ModelNotFoundError,
    ModelRunnerError,
    NotFoundError,
    UnsupportedArtifactError,
)
from modelrunner.memory.card_estimate import CARD_CONTEXT
from modelrunner.memory.fit import Verdict
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import DEFAULT_TAG, Reference, match_id
from modelrunner.operations.estimate.estimate import UNREACHED, Estimator, variant_of
from modelrunner.operations.estimate.report import EstimateRequest, Facts, Report
from modelrunner.registry.source import Source

MAX_HEADERS = 12
"""Manifests of one repository whose headers are read over the network."""

MAX_TAGS = 128
"""Tags of one repository that are asked for; few have half as many."""

_UNREADABLE = (*UNREACHED, IntegrityError, UnsupportedArtifactError, NotFoundError)
_RANKS: dict[Verdict, int] = {"fits": 4, "partial": 3, "maybe": 2, "unknown": 1, "no": 0}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model of a repository.

    Attributes:
        reference: Its most telling name.
        tags: All its tags.
        digest: Its manifest; None where only the card names it.
        report: What it needs; None where that cannot be known.
        problem: Why not.
    """

    reference: Reference
    tags: tuple[str, ...]
    digest: Digest | None = None
    report: Report | None = None
    problem: str | None = None

    @property
    def size(self) -> int | None:
        """Bytes of its weights, as far as they are known."""
        if self.report is None:
            return None
        variant = self.report.facts.variant
        return self.report.estimate.weights or (variant.size_bytes if variant else None)

    @property
    def verdict(self) -> Verdict:
        """Whether it fits."""
        return self.report.fit.verdict if self.report is not None else "unknown"

    def to_dict(self) -> dict[str, object]:
        """The variant as JSON has it: an estimate with its tags, or what is wrong."""
        value: dict[str, object] = {
            "tags": list(self.tags),
            "digest": str(self.digest) if self.digest is not None else None,
            "quantization": self.report.facts.quantization if self.report else None,
            "size_bytes": self.size,
        }
        if self.report is None:
            return value | {"reference": self.reference.short, "problem": self.problem}
        return value | self.report.to_dict()


@dataclass(frozen=True, slots=True)
class Variants:
    """The models of a repository, the largest first; `unseen` is how many tags were left out."""

    repository: Reference
    candidates: tuple[Candidate, ...]
    unseen: int = 0

    def best(self) -> Candidate | None:
        """The one to take, None where nothing is known of any.

        That is the largest that fits: with the most parameters, then with the most bytes. Where
        none does, the smallest that fits in part, or that may fit, or the smallest of all.
        """
        known = [entry for entry in self.candidates if entry.report is not None]
        if not known:
            return None
        most = max(_RANKS[entry.verdict] for entry in known)
        equals = [entry for entry in known if _RANKS[entry.verdict] == most]
        return (max if most == _RANKS["fits"] else min)(equals, key=_weight)


def names_repository(text: str) -> bool:
    """Whether a text names a repository, rather than one model by tag, digest or ID."""
    last = text.rpartition("/")[2]
    return not (match_id(text) or "@" in text or ":" in last)


def variants(estimator: Estimator, text: str, request: EstimateRequest) -> Variants:
    """Every model of a repository: from its registry, else from the store and its card.

    Args:
        estimator: Who knows what each needs.
        text: The repository.
        request: The use; without a context, that of the cards, so that all can be compared.

    Raises:
        InvalidReferenceError: The text is not a name.
        AccessError, ManifestNotFoundError, NotInStoreError, TransferError: The registry does not
            answer, and nothing else is known.
    """
    reference = Reference.parse(text)
    card = estimator.card(text)
    request = request._replace(usual=CARD_CONTEXT)
    try:
        source = estimator.source_for(reference)
        tags = source.tags(reference)
    except (*UNREACHED, ModelNotFoundError):
        found = _without_registry(estimator, reference, card, request)
        if not found:
            raise
        return Variants(reference, _ordered(found))
    groups: dict[Digest, list[str]] = {}
    for tag in islice(tags, MAX_TAGS):
        groups.setdefault(source.resolve(reference.with_tag(tag)), []).append(tag)
    found = [
        _look(_Place(estimator, source, card), reference, digest, tags_of, request, at=at)
        for at, (digest, tags_of) in enumerate(groups.items())
    ]
    return Variants(reference, _ordered(found), max(len(tags) - MAX_TAGS, 0))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to look for a variant."""

    estimator: Estimator
    source: Source
    card: Card | None


def _look(
    place: _Place,
    reference: Reference,
    digest: Digest,
    tags: Sequence[str],
    request: EstimateRequest,
    *,
    at: int,
) -> Candidate:
    named = reference.with_tag(_telling(tags))
    pinned = named.with_digest(digest)
    found = Candidate(named, tuple(tags), digest)
    variant = variant_of(place.card, tags)
    try:
        stored = place.estimator.store.find(pinned)
        if stored is not None:
            return replace(
                found,
                report=place.estimator.of_stored(stored, named.short, request, place.card),
            )
        if at < MAX_HEADERS:
            facts = Facts(named.short, variant=variant)
            report = place.estimator.of_remote(place.source, pinned, request, facts)
            return replace(found, report=report)
        problem = f"not looked at: the repository has more than {MAX_HEADERS} models"
    except CacheTypeError as exc:
        # a card without a shape would not tell
        return replace(found, problem=exc.message)
    except _UNREADABLE as exc:
        problem = exc.message
    if variant is None or variant.size_bytes is None:
        return replace(found, problem=problem)
    return _by_card(replace(found, problem=problem), place.estimator, place.card, variant, request)


def _without_registry(
    estimator: Estimator, reference: Reference, card: Card | None, request: EstimateRequest
) -> list[Candidate]:
    """What the store and the card know of a repository."""
    found = []
    named: set[str] = set()
    for model in estimator.store.models():
        tags = [name.tag for name in model.references if name.name == reference.name and name.tag]
        if not tags:
            continue
        named.update(tags)
        name = reference.with_tag(_telling(tags))
        try:
            report = estimator.of_stored(model, name.short, request, card)
        except ModelRunnerError as exc:
            found.append(Candidate(name, tuple(tags), model.digest, problem=exc.message))
        else:
            found.append(Candidate(name, tuple(tags), model.digest, report))
    for variant in card.variants if card is not None else ():
        if variant.size_bytes is None or not variant.tags or named & set(variant.tags):
            continue
        name = reference.with_tag(_telling(variant.tags))
        found.append(_by_card(Candidate(name, variant.tags), estimator, card, variant, request))
    return found


def _by_card(
    found: Candidate,
    estimator: Estimator,
    card: Card | None,
    variant: Variant,
    request: EstimateRequest,
) -> Candidate:
    """A candidate with what its card says of it."""
    try:
        report = estimator.of_card(found.reference.short, card, variant, request)
    except CacheTypeError as exc:
        return replace(found, problem=exc.message)
    return replace(found, report=report)


def _telling(tags: Sequence[str]) -> str:
    """The tag that says most: the longest, and never `latest` where there is another."""
    return max(tags, key=lambda tag: (tag != DEFAULT_TAG, len(tag), tag))


def _ordered(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    return tuple(sorted(found, key=_weight, reverse=True))


def _weight(entry: Candidate) -> tuple[float, int]:
    """Larger is better: parameters to two digits, then bytes."""
    parameters = entry.report.facts.parameters if entry.report is not None else None
    # bounded: a number already
    return float(f"{parameters or 0:.1e}"), entry.size or 0
