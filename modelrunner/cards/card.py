"""What a model card says, as values: attributes, variants, benchmarks, shapes, oddities.

A `Card` never lies about what was printed: a cell that could not be read is `None`, and a cell
that reads well but cannot be true is kept and named in `warnings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

ShapeValue = int | bool | str | tuple[int, ...]
Shape = Mapping[str, ShapeValue]

_NO_SHAPES: Mapping[str, Shape] = {}


class Attributes(NamedTuple):
    """The card's characteristics; `None` where the card has no such row or prints `-`."""

    provider: str | None = None
    architecture: str | None = None
    cutoff_date: str | None = None
    languages: tuple[str, ...] | None = None
    tool_calling: bool | None = None
    input_modalities: tuple[str, ...] | None = None
    output_modalities: tuple[str, ...] | None = None
    license: str | None = None
    license_url: str | None = None
    extra: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The eight attributes by name, the license's address, and rows with other names."""
        return {
            "provider": self.provider,
            "architecture": self.architecture,
            "cutoff_date": self.cutoff_date,
            "languages": _list(self.languages),
            "tool_calling": self.tool_calling,
            "input_modalities": _list(self.input_modalities),
            "output_modalities": _list(self.output_modalities),
            "license": self.license,
            "license_url": self.license_url,
            "extra": dict(self.extra),
        }


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the variants table: the same weights under one or several references.

    Attributes:
        references: As printed, in order; empty where the table names none.
        parameters: In 10^9; `None` where the cell gives no plain count (`64x994M`).
        parameters_active: In 10^9, of a mixture of experts (`30B-A3B`).
        quantization: The file type as the cell says it, which the tag may contradict.
        context_tokens: The trained context, which is not the one that `vram_bytes` is for.
        vram_bytes: At the context for which cards are made, 4096 tokens.
        size_bytes: The card's units as they are meant: `GB` is 2^30 in a table with VRAM.
        size_bytes_decimal: The decimal reading, where the row is of the kind that used it.
    """

    references: tuple[str, ...] = ()
    parameters: float | None = None
    parameters_text: str | None = None
    parameters_active: float | None = None
    quantization: str | None = None
    context_text: str | None = None
    context_tokens: int | None = None
    vram_bytes: int | None = None
    size_bytes: int | None = None
    size_bytes_decimal: int | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the references, without the repository."""
        return tuple(tag_of(reference) for reference in self.references)

    def to_dict(self) -> dict[str, object]:
        """The row as JSON has it."""
        return {
            "references": list(self.references),
            "parameters": self.parameters,
            "parameters_text": self.parameters_text,
            "parameters_active": self.parameters_active,
            "quantization": self.quantization,
            "context_tokens": self.context_tokens,
            "vram_bytes": self.vram_bytes,
            "size_bytes": self.size_bytes,
            "size_bytes_decimal": self.size_bytes_decimal,
        }


class Benchmark(NamedTuple):
    """One score; `values` has every column by its heading where the table compares several."""

    category: str | None
    metric: str
    value: str
    values: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The score as JSON has it."""
        row: dict[str, object] = {
            "category": self.category,
            "metric": self.metric,
            "value": self.value,
        }
        if self.values:
            row["values"] = dict(self.values)
        return row


class Link(NamedTuple):
    """An address that the card points to, and what it calls it."""

    text: str
    url: str


class CardSection(NamedTuple):
    """A heading, its level from 1 (0 for what stands before any), and the Markdown below it."""

    level: int
    title: str
    text: str

    def to_dict(self) -> dict[str, object]:
        """The section as JSON has it."""
        return {"level": self.level, "title": self.title, "text": self.text}


@dataclass(frozen=True, slots=True)
class Card:
    """A model card.

    Attributes:
        name: The repository's name without its namespace, where the caller knows it.
        latest: The reference that the tag `latest` stands for.
        shapes: The hyperparameters by size label (`8B`), from the "Model shape" table.
        footnotes: Mark and text of each.
        warnings: What is odd, as lower-case sentences.
        sections: The whole text by its headings, without HTML comments.
        text: The Markdown without control characters.
    """

    name: str | None = None
    title: str | None = None
    description: str = ""
    attributes: Attributes = field(default_factory=Attributes)
    variants: tuple[Variant, ...] = ()
    latest: str | None = None
    benchmarks: tuple[Benchmark, ...] = ()
    links: tuple[Link, ...] = ()
    footnotes: tuple[tuple[str, str], ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=lambda: _NO_SHAPES)
    warnings: tuple[str, ...] = ()
    sections: tuple[CardSection, ...] = ()
    text: str = ""

    @property
    def shape(self) -> Shape | None:
        """The shape of the variant that `latest` is, or the only one there is."""
        variant = self.variant(self.latest) if self.latest else None
        if variant is not None:
            return self.shape_of(variant)
        return next(iter(self.shapes.values())) if len(self.shapes) == 1 else None

    def variant(self, reference: str) -> Variant | None:
        """The row that a reference, or a bare tag, names; `latest` follows the card's note."""
        tag = tag_of(reference)
        if tag == "latest" and self.latest is not None:
            tag = tag_of(self.latest)
        return next((variant for variant in self.variants if tag in variant.tags), None)

    def shape_of(self, variant: Variant) -> Shape | None:
        """The hyperparameters of a variant: its tag begins with the shape's size label."""
        # longest label first: "30B" must not claim the tags of "30B-A3B"
        for label in sorted(self.shapes, key=len, reverse=True):
            if label == variant.parameters_text:
                return self.shapes[label]
            if any(tag == label or tag.startswith(f"{label}-") for tag in variant.tags):
                return self.shapes[label]
        return None

    def to_dict(self) -> dict[str, object]:
        """The card's facts as `card --json` prints them."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "attributes": self.attributes.to_dict(),
            "variants": [variant.to_dict() for variant in self.variants],
            "latest": self.latest,
            "benchmarks": [benchmark.to_dict() for benchmark in self.benchmarks],
            "links": [link.url for link in self.links],
            "footnotes": dict(self.footnotes),
            "shapes": {label: _plain(shape) for label, shape in self.shapes.items()},
            "warnings": list(self.warnings),
            "sections": [section.to_dict() for section in self.sections],
        }


def tag_of(reference: str) -> str:
    """The tag of a reference; a text without a colon is a tag already."""
    return reference.rpartition(":")[2]


def _list(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


def _plain(shape: Shape) -> dict[str, object]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in shape.items()}
