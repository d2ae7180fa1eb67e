"""Estimate: the memory that a model needs, from the best source that knows.

The model's own header, here or by ranges from the registry; else the values in the artifact's
config; else the row of its card. What the card says is shown beside in any case.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelrunner.cards.card import Card, Variant
from modelrunner.cards.catalog import Catalog
from modelrunner.errors import (
    AccessError,
    CardNotFoundError,
    ManifestNotFoundError,
    NotInStoreError,
    TransferError,
)
from modelrunner.memory.card_estimate import CARD_CONTEXT, estimate_from_card
from modelrunner.memory.card_shape import shape_from_card
from modelrunner.memory.devices import Device
from modelrunner.memory.estimate import Estimate, estimate
from modelrunner.memory.fit import Budget, Fit, Verdict, choose_context, fit
from modelrunner.memory.load import Load
from modelrunner.memory.shape import ModelShape
from modelrunner.oci.artifact import ModelArtifact
from modelrunner.oci.reference import Reference, match_id
from modelrunner.operations import headers
from modelrunner.operations.headers import Headers
from modelrunner.registry.source import Source
from modelrunner.store.store import Store


@dataclass(frozen=True, slots=True)
class Wish:
    """How the model would be used; a context of None is as long as trained, fits and is usual."""

    context: int | None = None
    kv_type: str = "f16"
    sequences: int = 1
    micro_batch: int = 512
    gpu_layers: int | None = None
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The answer, with everything that it rests on."""

    name: str
    load: Load
    estimate: Estimate
    fit: Fit
    variant: Variant | None
    devices: Sequence[Device]
    trained: int | None

    def to_dict(self) -> dict[str, object]:
        """The answer as JSON has it."""
        found, parts = self.estimate, _parts(self.estimate)
        card = self.variant
        return {
            "reference": self.name,
            "source": found.source,
            "context": self.load.context,
            "kv_type": self.load.kv_type,
            "bytes": {"total": found.total} if found.source == "card" else parts,
            "low_bytes": found.low,
            "high_bytes": found.high,
            "card": None
            if card is None
            else {
                "vram_bytes": card.vram_bytes,
                "size_bytes": card.size_bytes,
                "context": CARD_CONTEXT,
            },
            "devices": [
                {
                    "name": device.name,
                    "kind": device.kind,
                    "total_bytes": device.total_bytes,
                    "free_bytes": device.free_bytes,
                    "backend": device.backend,
                }
                for device in self.devices
            ],
            "fit": {
                "verdict": self.fit.verdict,
                "gpu_layers": self.fit.gpu_layers,
                "max_context": self.fit.max_context,
                "budget_bytes": self.fit.budget_bytes,
            },
            "trained_context": self.trained,
            "notes": list(found.notes),
        }


@dataclass(frozen=True, slots=True)
class Estimator:
    """Finds out what models need."""

    store: Store
    source_for: Callable[[Reference], Source]
    catalog: Callable[[], Catalog]
    devices: Callable[[], Sequence[Device]]

    def of_file(self, path: Path, wish: Wish) -> Report:
        """For a GGUF file.

        Raises:
            MalformedGGUFError, UsageError: It is none, or not there.
        """
        return self.of_headers(str(path), headers.of_file(path), wish)

    def of_model(self, text: str, wish: Wish) -> Report:
        """For a model by name or ID: here, else in its registry, else on its card.

        Raises:
            ModelNotFoundError, ManifestNotFoundError: Nobody knows it.
            TransferError: The registry does not answer, and no card knows it.
        """
        stored = self.store.lookup(text)
        card = self._card(text)
        if stored is not None:
            variant = _variant(card, [name.short for name in stored.references])
            return self.of_headers(text, headers.of_stored(stored), wish, variant)
        if match_id(text) and text.startswith("sha256:"):
            self.store.resolve(text)
        reference = Reference.parse(text)
        variant = _variant(card, [reference.short])
        try:
            return self._remote(reference, wish, variant)
        except (AccessError, ManifestNotFoundError, NotInStoreError, TransferError):
            if card is None or variant is None or variant.size_bytes is None:
                raise
            return self._from_card(reference, card, variant, wish)

    def of_headers(
        self, name: str, found: Headers, wish: Wish, variant: Variant | None = None
    ) -> Report:
        """For headers that are known already."""
        shape = ModelShape.from_header(found.first, shards=found.shards[1:])
        return self._of_shape(name, shape, wish, variant, found.projector_bytes)

    def _of_shape(
        self,
        name: str,
        shape: ModelShape,
        wish: Wish,
        variant: Variant | None,
        projector: int | None = None,
    ) -> Report:
        available = self.devices()
        room: Sequence[Device] | int = available if wish.budget is None else wish.budget
        load = Load(
            wish.context or 1,
            wish.kv_type,
            wish.sequences,
            wish.micro_batch,
            gpu_layers=wish.gpu_layers,
        )
        context = wish.context or choose_context(shape, room, load=load, projector=projector)
        load = replace(load, context=context)
        return Report(
            name,
            load,
            estimate(shape, load, projector=projector),
            fit(shape, load, room, projector=projector),
            variant,
            available,
            shape.context or None,
        )

    def _remote(self, reference: Reference, wish: Wish, variant: Variant | None) -> Report:
        source = self.source_for(reference)
        pinned = reference.with_digest(source.resolve(reference))
        artifact = ModelArtifact.from_manifest(source.manifest(pinned))
        found = headers.of_remote(source, pinned, artifact)
        return self.of_headers(reference.short, found, wish, variant)

    def _from_card(self, reference: Reference, card: Card, variant: Variant, wish: Wish) -> Report:
        facts, size = card.shape_of(variant), variant.size_bytes or 0
        shape = shape_from_card(facts, size) if facts is not None else None
        if shape is not None:
            return self._of_shape(reference.short, shape, wish, variant)
        context = wish.context or CARD_CONTEXT
        found = estimate_from_card(variant.vram_bytes, size, context=context)
        budget = wish.budget if wish.budget is not None else _budget(self.devices())
        load = Load(context, wish.kv_type, wish.sequences, wish.micro_batch)
        verdict = _card_verdict(found, budget)
        return Report(
            reference.short,
            load,
            found,
            Fit(verdict, None, None, budget),
            variant,
            self.devices(),
            variant.context_tokens,
        )

    def _card(self, text: str) -> Card | None:
        try:
            return self.catalog().find(text)
        except CardNotFoundError:
            return None


def _variant(card: Card | None, names: Sequence[str]) -> Variant | None:
    found = (card.variant(name) for name in names) if card is not None else ()
    return next((variant for variant in found if variant is not None), None)


def _parts(found: Estimate) -> dict[str, int | None]:
    return {
        "weights": found.weights,
        "kv_cache": found.kv_cache,
        "recurrent": found.recurrent,
        "compute": found.compute,
        "output": found.output,
        "projector": found.projector,
        "total": found.total,
    }


def _card_verdict(found: Estimate, budget: int) -> Verdict:
    if found.low > budget:
        return "no"
    return "fits" if found.high is not None and found.high <= budget else "unknown"


def _budget(available: Sequence[Device]) -> int:
    return Budget.of(available).together
