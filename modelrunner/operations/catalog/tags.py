"""What is known of a repository's tags: by the store, by a card, by the registry if it is asked.

Listing asks the registry for the names alone. Details cost a manifest a tag, and a config for each
manifest that differs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from modelrunner.cards.card import Card
from modelrunner.cards.cells import parse_quantization
from modelrunner.errors import IntegrityError, ManifestNotFoundError, UnsupportedArtifactError
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.operations.model import configs
from modelrunner.operations.model.resolve import artifact_at
from modelrunner.operations.model.rows import Row, row_of
from modelrunner.registry.source import Source
from modelrunner.store.store import Store

DETAIL_LIMIT = 50
"""Tags whose manifests are asked for at most."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag; None is unknown.

    Attributes:
        name: The tag.
        size_bytes: Of all files; from a card, of the weights.
        quantization: As cards print it, without `MOSTLY_`.
        here: Whether the store has a model of this name.
        id: The manifest's digest.
        source: Who says the rest.
        problem: Why the registry's own answer cannot be used.
    """

    name: str
    size_bytes: int | None = None
    quantization: str | None = None
    parameters: str | None = None
    context_length: int | None = None
    here: bool = False
    id: str | None = None
    source: Literal["store", "registry", "card"] | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The tag as JSON has it."""
        return {
            "tag": self.name,
            "size_bytes": self.size_bytes,
            "quantization": self.quantization,
            "parameters": self.parameters,
            "context_length": self.context_length,
            "here": self.here,
            "id": self.id,
            "source": self.source,
            **({"problem": self.problem} if self.problem else {}),
        }


def describe_tags(
    reference: Reference, names: Iterable[str], store: Store, card: Card | None
) -> tuple[Tag, ...]:
    """What is known here of a repository's tags: no request is made."""
    stored = _stored(reference, store)
    return tuple(
        _of_row(name, stored[name]) if name in stored else _of_card(name, card) for name in names
    )


def with_details(source: Source, reference: Reference, tags: Sequence[Tag]) -> tuple[Tag, ...]:
    """The same tags, with what the registry's manifests and configs say of those not in the store.

    Only the first 50 are asked for.

    Raises:
        AccessError, TransferError: The registry says no, or nothing.
    """
    seen: dict[Digest, Tag] = {}
    found: list[Tag] = []
    asked = 0
    for tag in tags:
        if tag.here or asked == DETAIL_LIMIT:
            found.append(tag)
            continue
        asked += 1
        try:
            found.append(_asked(source, reference.with_tag(tag.name), tag, seen))
        except (IntegrityError, ManifestNotFoundError, UnsupportedArtifactError) as exc:
            # one that is no model, or damaged, does not keep the others from being told
            found.append(replace(tag, problem=exc.message))
    return tuple(found)


def _stored(reference: Reference, store: Store) -> Mapping[str, Row]:
    return {
        name.tag: row_of(model)
        for model in store.models()
        for name in model.references
        if name.name == reference.name and name.tag is not None
    }


def _of_row(name: str, row: Row) -> Tag:
    return Tag(
        name,
        row.size_bytes,
        parse_quantization(row.quantization or ""),
        row.parameters,
        row.context_length,
        here=True,
        id=row.id,
        source="store",
        problem=row.problem,
    )


def _of_card(name: str, card: Card | None) -> Tag:
    variant = card.variant(name) if card is not None else None
    if variant is None:
        return Tag(name)
    return Tag(
        name,
        variant.size_bytes,
        variant.quantization,
        variant.parameters_text,
        variant.context_tokens,
        source="card",
    )


def _asked(source: Source, reference: Reference, tag: Tag, seen: dict[Digest, Tag]) -> Tag:
    artifact = artifact_at(source, reference)
    digest = artifact.manifest.digest
    if digest not in seen:
        pinned = reference.with_digest(digest)
        config = configs.of_remote(source, pinned, artifact)
        seen[digest] = Tag(
            tag.name,
            artifact.manifest.total_bytes,
            parse_quantization(config.quantization or "") or tag.quantization,
            config.parameters or tag.parameters,
            config.context_length or tag.context_length,
            id=str(digest),
            source="registry",
        )
    return replace(seen[digest], name=tag.name)
