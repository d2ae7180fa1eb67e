"""Card against header: where a card's row says something else than the file that it is about.

Cards round, so only what rounding does not explain is a difference. The VRAM is recomputed by the
cards' own formula: what differs then is not the use that it was made for, but the row.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from modelrunner.cards.card import Card, Variant
from modelrunner.errors import IntegrityError, UnsupportedArtifactError
from modelrunner.memory.card_estimate import card_figures
from modelrunner.oci.reference import DEFAULT_NAMESPACE, DOCKER_HUB, Reference
from modelrunner.operations.model.headers import Headers, of_stored
from modelrunner.store.store import Store
from modelrunner.units import format_context, format_count, format_size

_SIZE_SLACK, _VRAM_SLACK = 0.01, 0.03
_COUNT_SLACK = 0.06
"""Two printed digits, and `1M` for 2 to the power of 20."""

_SMALLEST = 6 * 1024 * 1024
"""Bytes that two decimals of a GiB hide."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of which card and header say something else.

    Attributes:
        what: `size`, `parameters`, `quantization`, `context` or `vram`.
        card: As the card has it.
        header: As the file has it; of `vram`, what the cards' formula makes of it.
        sentence: Both, for people.
    """

    what: str
    card: int | str
    header: int | str
    sentence: str

    def to_dict(self) -> dict[str, object]:
        """The difference as JSON has it."""
        return {
            "what": self.what,
            "card": self.card,
            "header": self.header,
            "sentence": self.sentence,
        }


def differences(row: Variant, found: Headers) -> tuple[Difference, ...]:
    """Where a card's row and the headers of a model differ; what either does not say is left out.

    Raises:
        MalformedGGUFError: The shards are not of one set.
    """
    return (*_sizes(row, found), *_counts(row, found), *_quantization(row, found))


def stored_differences(store: Store, card: Card) -> tuple[tuple[str, Difference], ...]:
    """Where a card and the models of it that are here differ, each with the model's name.

    A stored model that cannot be read is skipped: `inspect` and `verify` say why.
    """
    found: list[tuple[str, Difference]] = []
    for model in store.models():
        for name in model.references:
            row = card.variant(name.short) if _is_of(name, card) else None
            if row is None:
                continue
            try:
                found += [(name.short, entry) for entry in differences(row, of_stored(model))]
            except (IntegrityError, UnsupportedArtifactError):
                continue
    return tuple(found)


def _is_of(name: Reference, card: Card) -> bool:
    return card.name is not None and name.name == f"{DOCKER_HUB}/{DEFAULT_NAMESPACE}/{card.name}"


def _sizes(row: Variant, found: Headers) -> Iterator[Difference]:
    computed = card_figures(found.first, shards=found.shards[1:])
    size, vram = row.size_bytes, row.vram_bytes
    # some rows were printed in the decimal unit that others only seem to use
    decimal = row.size_bytes_decimal
    sizes = [entry for entry in (size, decimal) if entry is not None]
    if size is not None and not any(
        _alike(entry, computed.size_bytes, _SIZE_SLACK, _SMALLEST) for entry in sizes
    ):
        yield Difference(
            "size",
            size,
            computed.size_bytes,
            f"size: {format_size(size)} in the card, {format_size(computed.size_bytes)} in "
            "the tensors",
        )
    if vram is not None and not _alike(vram, computed.vram_bytes, _VRAM_SLACK, _SMALLEST):
        yield Difference(
            "vram",
            vram,
            computed.vram_bytes,
            f"VRAM: {format_size(vram)} in the card, {format_size(computed.vram_bytes)} by "
            "its formula",
        )


def _counts(row: Variant, found: Headers) -> Iterator[Difference]:
    metadata = found.metadata
    parameters = round(row.parameters * 10**9) if row.parameters else None
    if parameters is not None and not _alike(parameters, metadata.parameters, _COUNT_SLACK):
        yield Difference(
            "parameters",
            parameters,
            metadata.parameters,
            f"parameters: {format_count(parameters)} in the card, "
            f"{format_count(metadata.parameters)} in the tensors",
        )
    context, trained = row.context_tokens, metadata.context_length
    if context and trained and not _alike(context, trained, _COUNT_SLACK):
        yield Difference(
            "context",
            context,
            trained,
            f"context: {format_context(context)} in the card, {format_context(trained)} in "
            "the header",
        )


def _quantization(row: Variant, found: Headers) -> Iterator[Difference]:
    stated, header = row.quantization, found.metadata.quantization
    if stated and header and _plain(stated) != _plain(header):
        yield Difference(
            "quantization",
            stated,
            header.removeprefix("MOSTLY_"),
            f"quantization: {stated} in the card, {header.removeprefix('MOSTLY_')} in the header",
        )


def _plain(quantization: str) -> str:
    """`Q4_K_M` of `MOSTLY_Q4_K_M` and of `IQ2_XXS/Q4_K_M`."""
    last = quantization.upper().rpartition("/")[2].strip()
    return last.removeprefix("MOSTLY_").removeprefix("ALL_")


def _alike(one: int, other: int, slack: float, least: int = 0) -> bool:
    return abs(one - other) <= max(slack * max(one, other), least)
