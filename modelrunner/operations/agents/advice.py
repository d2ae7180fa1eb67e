"""What to download for an agent: by the cards of the catalog, for the memory of this machine."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from modelrunner.cards.card import Card, Variant
from modelrunner.errors import ModelRunnerError
from modelrunner.operations.estimate.estimate import Estimator
from modelrunner.operations.estimate.report import EstimateRequest


@dataclass(frozen=True, slots=True)
class Advised:
    """A variant of a card that would do.

    Attributes:
        name: What to pull.
        size: Bytes of its weights.
    """

    name: str
    size: int


def advised(
    cards: Iterable[Card], estimator: Estimator, context: int, *, larger_than: int = 0
) -> Advised | None:
    """Return the largest variant that calls tools and fits with a context.

    Args:
        cards: The cards to look at.
        estimator: Who knows what fits.
        context: Tokens.
        larger_than: Bytes of the weights of what there is already.
    """
    room = sum(device.free_bytes for device in estimator.devices())
    found = [
        (variant.size_bytes, variant.references[0], card, variant)
        for card, variant in _variants(cards, context)
        if variant.size_bytes is not None and larger_than < variant.size_bytes < room
    ]
    # of equals the first name, whatever the order of the cards
    for size, name, card, variant in sorted(found, key=lambda each: (-each[0], each[1])):
        if _fits(estimator, card, variant, context):
            return Advised(name, size)
    return None


def _variants(cards: Iterable[Card], context: int) -> Iterator[tuple[Card, Variant]]:
    for card in cards:
        if card.attributes.tool_calling is not True:
            continue
        for variant in card.variants:
            if variant.references and (variant.context_tokens or 0) >= context:
                yield card, variant


def _fits(estimator: Estimator, card: Card, variant: Variant, context: int) -> bool:
    request = EstimateRequest(context=context)
    try:
        report = estimator.of_card(variant.references[0], card, variant, request)
    except ModelRunnerError:
        return False
    return report.fit.verdict == "fits"
