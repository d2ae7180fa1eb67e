"""What the catalog offers: its variants filtered, sorted, compared with the memory there is."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from modelrunner.cards.card import Card, Variant
from modelrunner.frozen import replace
from modelrunner.memory.card_estimate import CARD_CONTEXT, estimate_from_card
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.estimate import estimate
from modelrunner.memory.fit import Budget, Verdict, fit, verdict_in
from modelrunner.memory.model.card_shape import shape_from_card
from modelrunner.memory.plan.load import PADDING, Load

Room = Sequence[Device] | int
"""Memory to fit into: this machine's devices, or a number of bytes."""


class Order(StrEnum):
    """What variants are sorted by."""

    NAME = "name"
    SIZE = "size"
    VRAM = "vram"
    PARAMETERS = "parameters"


class CardFilter(NamedTuple):
    """What is looked for; everything that is said has to hold.

    Attributes:
        tools: Whether the model has to call tools.
        license: A part of its license's name, in whatever case.
        max_size: Bytes of its weights at most; what has no size is left out.
        room: Memory that variants are compared with; None to leave that open.
        fits: Whether only those count that fit, all of it on the GPU or not.
        order: What the variants are sorted by, the smallest first.
    """

    tools: bool = False
    license: str | None = None
    max_size: int | None = None
    room: Room | None = None
    fits: bool = False
    order: Order = Order.NAME


class Offer(NamedTuple):
    """One variant of one card; a card without variants is offered as such.

    Attributes:
        card: The card.
        variant: Its row.
        verdict: Whether the variant fits; None where that was not asked.
    """

    card: Card
    variant: Variant | None
    verdict: Verdict | None = None

    @property
    def fits(self) -> bool | None:
        """Whether it fits, None where that is not known or was not asked."""
        return None if self.verdict in (None, "maybe", "unknown") else self.verdict != "no"

    @property
    def name(self) -> str:
        """The reference to pull."""
        if self.variant is not None and self.variant.references:
            return self.variant.references[0]
        return f"ai/{self.card.name}"


def offers(cards: Iterable[Card], wanted: CardFilter) -> tuple[Offer, ...]:
    """The variants of some cards that are wanted, in the order that is wanted."""
    chosen = (card for card in cards if _is_wanted(card, wanted))
    found = [offer for card in chosen for offer in _offers(card, wanted)]
    if wanted.order is not Order.NAME:
        found.sort(key=lambda offer: _unknown_last(_KEYS[wanted.order](offer.variant)))
    return tuple(found)


def to_dicts(found: Iterable[Offer]) -> list[dict[str, object]]:
    """The cards of these offers as JSON has them, each with no other variants than those."""
    cards: dict[str, tuple[Card, list[dict[str, object]]]] = {}
    for offer in found:
        _, rows = cards.setdefault(offer.card.name or "", (offer.card, []))
        if offer.variant is not None:
            said = {} if offer.verdict is None else {"fits": offer.fits}
            rows.append({**offer.variant.to_dict(), **said})
    return [{**card.to_dict(), "variants": rows} for card, rows in cards.values()]


def verdict_of(card: Card, variant: Variant, room: Room) -> Verdict:
    """Whether a variant fits at the context of its card, 4096 tokens, and thus at a longer one.

    From the card's table of shapes where it has one, else from the row's own range. With the
    contexts that are chosen unasked a model fits exactly if it fits at this one.
    """
    size = variant.size_bytes
    if size is None:
        return "unknown"
    budget = Budget(host=room) if isinstance(room, int) else Budget.of(room)
    facts = card.shape_of(variant)
    shape = shape_from_card(facts, size) if facts is not None else None
    if shape is None or not shape.is_known:
        row = estimate_from_card(variant.vram_bytes, size, context=CARD_CONTEXT)
        return verdict_in(row, budget.together)
    if shape.weights.total > budget.together:
        return "no"
    load = Load(min(shape.context or CARD_CONTEXT, CARD_CONTEXT))
    if not budget.gpus:
        return verdict_in(estimate(shape, load), budget.host)
    # for how long a context there is room is not asked, and would take most of the time: with
    # the shortest trained one there is nothing to find out
    return fit(replace(shape, context=PADDING), load, room).verdict


def marks(card: Card, room: Room) -> Mapping[str, str]:
    """What to say of a card's variants where they are shown, by reference."""
    return {
        reference: _MARKS[verdict_of(card, variant, room)]
        for variant in card.variants
        for reference in variant.references[:1]
    }


_MARKS: Mapping[Verdict, str] = {
    "fits": "fits",
    "partial": "partly on the GPU",
    "no": "too large",
    "maybe": "may fit",
    "unknown": "may fit",
}

_KEYS: Mapping[Order, Callable[[Variant | None], float | None]] = {
    Order.SIZE: lambda row: row.size_bytes if row else None,
    Order.VRAM: lambda row: row.vram_bytes if row else None,
    Order.PARAMETERS: lambda row: row.parameters if row else None,
}


def _unknown_last(value: float | None) -> tuple[bool, float]:
    return value is None, value or 0


def _is_wanted(card: Card, wanted: CardFilter) -> bool:
    facts = card.attributes
    if wanted.tools and facts.tool_calling is not True:
        return False
    return wanted.license is None or wanted.license.casefold() in (facts.license or "").casefold()


def _offers(card: Card, wanted: CardFilter) -> Iterator[Offer]:
    if not card.variants and wanted.max_size is None and not wanted.fits:
        yield Offer(card, None)
    for variant in card.variants:
        size = variant.size_bytes
        if wanted.max_size is not None and (size is None or size > wanted.max_size):
            continue
        room = wanted.room
        offer = Offer(card, variant, None if room is None else verdict_of(card, variant, room))
        if not wanted.fits or offer.fits:
            yield offer
