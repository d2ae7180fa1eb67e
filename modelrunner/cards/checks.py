"""What is odd about a card's rows: facts that cannot all be true.

None of it is an error. A row that contradicts itself is shown as printed, with a sentence.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from modelrunner.cards.card import Card, Variant, tag_of
from modelrunner.units import format_size

_TAG_QUANTIZATION = r"(?i)(?:^|-)(?:UD-)?((?:I?Q\d|TQ\d)\w*|B?F16|FP?16|F32|MXFP4)$"
_TAG_SIZE = r"(?i)(\d{1,5}(?:\.\d{1,3})?)([BM])(?:-|$)"
_REFERENCE = r"(?:[\w.:-]+/)*[\w.-]+(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?"
# 3B for 3.2B is rounding, 4B for 6.9B is another count
_ROUNDING = 0.065


def odd_rows(
    variants: Sequence[Variant], *, note: str | None, latest: str | None, name: str | None
) -> tuple[str, ...]:
    """What the rows of one card say against themselves and each other."""
    found: list[str] = []
    for variant in variants:
        found.extend(_odd_row(variant, name))
    found.extend(_falling_sizes(variants))
    found.extend(_shared_references(variants))
    if note and latest and tag_of(note) != tag_of(latest):
        found.append(f"latest is {note} in the note, but {latest} in the table, which is used")
    return tuple(found)


def compare(card: Card, other: Card) -> tuple[str, ...]:
    """Rows that two cards share, cell by cell: one of the two is probably a copy."""
    theirs = {facts: variant for variant in other.variants if (facts := _facts(variant))}
    return tuple(
        f"{_name(variant)}: duplicate of {_name(theirs[facts])}"
        for variant in card.variants
        if (facts := _facts(variant)) in theirs
    )


def _facts(variant: Variant) -> tuple[object, ...] | None:
    """The figures of a row, where there are enough of them for a match to mean something."""
    if variant.vram_bytes is None or variant.size_bytes is None:
        return None
    return (
        variant.parameters_text,
        variant.quantization,
        variant.context_tokens,
        variant.vram_bytes,
        variant.size_bytes,
    )


def _odd_row(variant: Variant, name: str | None) -> Iterator[str]:
    row = _name(variant)
    size, vram = variant.size_bytes, variant.vram_bytes
    if size is not None and vram is not None and vram < size:
        yield f"{row}: VRAM {format_size(vram)} is below the size {format_size(size)}"
    if variant.size_bytes_decimal is not None:
        yield f"{row}: the size is probably in GB (powers of 1000)"
    for reference in variant.references:
        if re.fullmatch(_REFERENCE, reference) is None or reference.count(":") > 1:
            yield f"{reference}: invalid reference"
        elif name and reference.rpartition("/")[2].partition(":")[0] != name:
            yield f"{reference}: expected the repository {name}"
    yield from _tag_against_cells(variant)


def _tag_against_cells(variant: Variant) -> Iterator[str]:
    for reference in variant.references:
        tag = tag_of(reference)
        quantization = re.search(_TAG_QUANTIZATION, tag)
        if (
            quantization
            and variant.quantization
            and not _same(quantization[1], variant.quantization)
        ):
            yield (
                f"{reference}: quantization {variant.quantization}, but {quantization[1]} in the "
                "tag"
            )
        size = re.match(_TAG_SIZE, tag)
        if size and variant.parameters:
            # bounded: by the pattern
            billions = float(size[1]) / (1 if size[2] in "Bb" else 1000)
            if abs(billions - variant.parameters) > _ROUNDING * variant.parameters:
                said = size[1] + size[2]
                yield f"{reference}: parameters {variant.parameters_text}, but {said} in the tag"


def _same(tag: str, cell: str) -> bool:
    return tag.upper().replace("FP16", "F16") == cell.upper().replace("FP16", "F16")


def _falling_sizes(variants: Sequence[Variant]) -> Iterator[str]:
    """More parameters in fewer bytes, at one quantization."""
    groups: dict[str, list[Variant]] = defaultdict(list)
    for variant in variants:
        if variant.quantization and variant.parameters and variant.size_bytes is not None:
            groups[variant.quantization].append(variant)
    for group in groups.values():
        ordered = sorted(group, key=lambda variant: variant.parameters or 0)
        for small, large in pairwise(ordered):
            if (large.parameters or 0) <= (small.parameters or 0):
                continue
            if (large.size_bytes or 0) < (small.size_bytes or 0):
                yield (
                    f"{_name(large)}: smaller than {_name(small)} with more parameters"
                    f" at {large.quantization}"
                )


def _shared_references(variants: Sequence[Variant]) -> Iterator[str]:
    seen: set[str] = set()
    for variant in variants:
        for reference in dict.fromkeys(variant.references):
            if reference in seen:
                yield f"{reference}: two rows with different values"
            seen.add(reference)


def _name(variant: Variant) -> str:
    names: Iterable[str] = (ref for ref in variant.references if tag_of(ref) != "latest")
    first = next(iter(names), None) or next(iter(variant.references), None)
    return first or variant.quantization or "a row"
