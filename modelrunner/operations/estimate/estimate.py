"""Estimate: the memory that a model needs, from the best source that knows.

The model's own header, here or by ranges from the registry; else the values in the artifact's
config or the shape in its card; else the row of its card. Where it is asked for, llama.cpp's own
plan of a model that is here. What the card says is shown beside in any case.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.cards.catalog import Catalog
from modelrunner.errors import (
    AccessError,
    CardNotFoundError,
    HeaderTooLongError,
    MalformedGGUFError,
    ManifestNotFoundError,
    NotInStoreError,
    TransferError,
    UsageError,
)
from modelrunner.frozen import frozen, replace
from modelrunner.memory.card_estimate import CARD_CONTEXT, estimate_from_card
from modelrunner.memory.context import ContextSource, default_context, running_context
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.estimate import certain_notes, estimate
from modelrunner.memory.fit import Budget, Fit, choose_context, fit, verdict_in
from modelrunner.memory.model.card_shape import shape_from_card
from modelrunner.memory.model.contradictions import contradiction
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load
from modelrunner.memory.vllm import cache_type, estimate_served, fit_served
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.reference import Reference, is_whole_id
from modelrunner.operations.estimate.report import EstimateRequest, Facts, Report
from modelrunner.operations.model import headers
from modelrunner.operations.model.headers import Headers
from modelrunner.operations.model.purpose import require_model
from modelrunner.operations.model.tensors import read as tensors
from modelrunner.operations.model.tensors.read import Tensors
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_size

if TYPE_CHECKING:
    from modelrunner.cards.card import Card, Variant
    from modelrunner.operations.estimate.observations import Experience
    from modelrunner.registry.source import Source

OBSERVATIONS_FILE = "observations.json"
"""What is kept of what models needed when they ran, beside histories and logs."""

USUAL_CACHE = "f16"
"""What the KV cache is kept in where nobody asks for another type."""

UNREACHED = (AccessError, ManifestNotFoundError, NotInStoreError, TransferError)
"""What leaves a card as the only one to ask."""


@frozen
class Estimator:
    """Finds out what models need.

    Attributes:
        store: The local store.
        source_for: Returns the registry of a model.
        catalog: Returns the cards.
        devices: Returns what a model could use.
        experience: Returns what models needed when they ran on this machine.
        cache: The directory of what was read of models in registries; None to keep nothing.
    """

    store: Store
    source_for: "Callable[[Reference], Source]"
    catalog: Callable[[], Catalog]
    devices: Callable[[], Sequence[Device]]
    experience: Callable[[], "Experience | None"] | None = None
    cache: Path | None = None

    def of_file(self, path: Path, request: EstimateRequest) -> Report:
        """For a GGUF file.

        Raises:
            MalformedGGUFError, UsageError: It is invalid, or not there.
            LaunchError: llama.cpp was asked for its plan, and has none.
        """
        if request.source in ("config", "card"):
            raise UsageError(
                f"{path} is a file: --source {request.source} is not available for it",
                hint="leave out --source",
            )
        found = headers.of_file(path)
        report = self._of_headers(Facts(str(path)), found, request)
        return _measured(report, path) if request.source == "measured" else report

    def of_model(self, text: str, request: EstimateRequest) -> Report:
        """For a model by name or ID: here, else in its registry, else on its card.

        Raises:
            ModelNotFoundError, ManifestNotFoundError: Nobody knows it.
            TransferError: The registry does not answer, and no card knows it.
            UsageError: The source that was asked for does not have it.
            LaunchError: llama.cpp was asked for its plan, and has none.
        """
        stored = self.store.lookup(text)
        if stored is not None:
            names = [reference.tag or "" for reference in stored.references]
            report = self.of_stored(stored, text, request, self.card(text, names))
            if not stored.is_stored:
                return report
            facts = report.facts._replace(manifest=stored.manifest, referrers=stored.referrers)
            return replace(report, facts=facts)
        card = self.card(text)
        if is_whole_id(text):
            self.store.resolve(text)
        reference = Reference.parse(text)
        variant = variant_of(card, [reference.short])
        if request.source == "measured":
            raise UsageError(
                f"{reference.short} is not in the local store, which --source measured needs",
                hint=f"run `modelrunner pull {reference.short}`, or use --source header",
            )
        if request.source == "card":
            return self.of_row(reference.short, card, variant, request)
        # see `of_remote`
        from modelrunner.operations.model.suggestions import pin

        try:
            source = self.source_for(reference)
            pinned = pin(source, reference)
            return self.of_remote(source, pinned, request, Facts(reference.short, variant=variant))
        except UNREACHED:
            if variant is None or not _answers(card, variant, request):
                raise
            return self.of_card(reference.short, card, variant, request)

    def of_stored(
        self, model: StoredModel, name: str, request: EstimateRequest, card: "Card | None"
    ) -> Report:
        """For a model that is here.

        Raises:
            IntegrityError: It is damaged.
            LaunchError: llama.cpp was asked for its plan, and has none.
        """
        variant = variant_of(card, [reference.short for reference in model.references])
        facts = Facts(name, variant=variant)
        if request.source == "card":
            return self.of_row(name, card, variant, request)
        if request.source == "config" and model.artifact.is_runnable:
            return self.of_config(facts, model.artifact, model.config, request)
        request = _as_packaged(request, lambda: model.config)
        if _is_for_vllm(model.artifact, request):
            return self._of_tensors(facts, tensors.of_stored(model), request)
        report = self._of_headers(facts, headers.of_stored(model), request)
        if request.source == "measured":
            return _measured(report, model.weights())
        return self._corrected(report, model.artifact, request)

    def of_remote(
        self, source: "Source", pinned: Reference, request: EstimateRequest, facts: Facts
    ) -> Report:
        """For a model in a registry, by its digest.

        Raises:
            UnsupportedArtifactError, IntegrityError: It is not a model.
            TransferError: The registry does not deliver, or not in parts.
        """
        # what is here is estimated without what a registry takes
        from modelrunner.operations.estimate.kept import Kept
        from modelrunner.operations.model.resolve import artifact_at

        kept = Kept(self.cache)
        artifact = artifact_at(kept.source(source), pinned)
        if artifact.is_archived and request.source in ("auto", "header"):
            return self._of_archives(source, pinned, artifact, request, facts)
        facts = facts._replace(manifest=artifact.manifest)

        def config() -> ModelConfig:
            return kept.config(source, pinned, artifact)

        if request.source == "config" and artifact.is_runnable:
            return self.of_config(facts, artifact, config(), request)
        asked = request
        request = _as_packaged(request, config)
        if _is_for_vllm(artifact, request):
            return self._of_tensors(facts, tensors.of_remote(source, pinned, artifact), request)
        try:
            found = kept.headers(source, pinned, artifact)
        except HeaderTooLongError:
            if request.source == "header":
                raise
            report = self._without_header(facts, artifact, config(), asked)
            limit = format_size(headers.REMOTE_LIMIT)
            notes = (*report.estimate.notes, f"the header exceeds {limit} and was not read")
            return replace(report, estimate=replace(report.estimate, notes=notes))
        return self._corrected(self._of_headers(facts, found, request), artifact, request)

    def _of_archives(
        self,
        source: "Source",
        pinned: Reference,
        artifact: ModelArtifact,
        request: EstimateRequest,
        facts: Facts,
    ) -> Report:
        """For a model whose files are in archives, which are not unpacked.

        Raises:
            HeaderTooLongError: The header is not at the front of a compressed one.
        """
        # few models are in archives
        from modelrunner.operations.estimate.archived import opened

        inside = opened(source, pinned, artifact)
        if _is_for_vllm(inside.artifact, request):
            found = tensors.of_parts(inside.artifact, inside.whole, inside.ranges)
            return self._of_tensors(facts, found, request)
        shards = headers.of_remote(source, pinned, inside.artifact, inside.header)
        report = self._of_headers(facts, shards, request)
        if inside.is_complete:
            return report
        notes = (*report.estimate.notes, "only the beginning of a compressed layer was read")
        return replace(report, estimate=replace(report.estimate, notes=notes))

    def _without_header(
        self, facts: Facts, artifact: ModelArtifact, config: ModelConfig, request: EstimateRequest
    ) -> Report:
        """For a model whose header is too long: by its config or its card, else its size alone."""
        variant = facts.variant
        if not config.has_shape and variant is not None and variant.size_bytes is not None:
            card = self.card(facts.name, variant.tags)
            return self.of_card(facts.name, card, variant, request)
        return self.of_config(facts, artifact, config, request)

    def of_config(
        self, facts: Facts, artifact: ModelArtifact, config: ModelConfig, request: EstimateRequest
    ) -> Report:
        """For an artifact by what its config says, and the sizes of its layers."""
        weights = sum(layer.descriptor.size for layer in artifact.weights)
        request = _as_packaged(request, lambda: config)
        shape = ModelShape.from_strings(config.gguf, weights=weights)
        if artifact.adapter is not None:
            shape = shape.with_adapter(artifact.adapter.descriptor.size)
        projector = artifact.projector
        size = projector.descriptor.size if projector else None
        known = facts._replace(quantization=config.quantization)
        return self._corrected(
            self._of_shape(known, shape, request, projector=size), artifact, request
        )

    def of_card(
        self, name: str, card: "Card | None", variant: "Variant", request: EstimateRequest
    ) -> Report:
        """For a variant that only a card knows: by the shape in it, else by its row."""
        shape = _shape(card, variant)
        if shape is None:
            return self.of_row(name, card, variant, request)
        return self._of_shape(_facts(name, variant), shape, request)

    def of_row(
        self, name: str, card: "Card | None", variant: "Variant | None", request: EstimateRequest
    ) -> Report:
        """For a variant by its row alone, which is for one context.

        Raises:
            CardNotFoundError: No such row, or one without a size.
        """
        if card is None or variant is None or variant.size_bytes is None:
            raise CardNotFoundError(
                f"{name}: size not found in any card",
                hint="`modelrunner cards` lists the models with cards",
            )
        context = request.context or request.usual or CARD_CONTEXT
        decided: ContextSource = "usual" if request.context is None else "requested"
        found = estimate_from_card(variant.vram_bytes, variant.size_bytes, context=context)
        available = self.devices()
        budget = request.budget if request.budget is not None else Budget.of(available).together
        return Report(
            _facts(name, variant),
            Load(
                context * request.parallel,
                request.kv_type or USUAL_CACHE,
                request.parallel,
                request.micro_batch,
                kv_type_v=request.kv_type_v,
            ),
            found,
            Fit(verdict_in(found, budget), None, None, budget),
            available,
            variant.context_tokens,
            requested=request.context,
            context_source=decided,
        )

    def card(self, text: str, tags: Collection[str] = ()) -> "Card | None":
        """The card of a repository, if the catalog has one that may have a row for the tags."""
        return self.catalog().get(text, tags)

    def _corrected(
        self, report: Report, artifact: ModelArtifact, request: EstimateRequest
    ) -> Report:
        """With what runtimes reported of these weights here, unless one source was asked for."""
        known = self.experience() if self.experience and request.source == "auto" else None
        if known is None:
            return report
        # few models have been run here, and the others need not load this
        from modelrunner.operations.estimate.observations import corrected

        return corrected(report, artifact, known)

    def _of_headers(self, facts: Facts, found: Headers, request: EstimateRequest) -> Report:
        metadata = found.metadata
        require_model(metadata, facts.name)
        if problem := contradiction(found.first, found.shards[1:]):
            raise MalformedGGUFError(f"{facts.name}: {problem}")
        known = facts._replace(quantization=metadata.quantization, parameters=metadata.parameters)
        return self._of_shape(known, found.shape, request, projector=found.projector_memory)

    def _of_tensors(self, facts: Facts, found: Tensors, request: EstimateRequest) -> Report:
        """For a model in safetensors, as vLLM runs it."""
        shape, available = found.shape, self.devices()
        room: Sequence[Device] | int = available if request.budget is None else request.budget
        kind = cache_type(found.config, request.kv_type, request.kv_type_v)
        parallel = request.parallel
        default = default_context(shape.trained, request.packaged)
        tokens, decided = request.context or default.tokens, default.source
        if request.context is None:
            most = fit_served(shape, Load(tokens * parallel, kind, parallel), room).max_context
            if most is not None and most < tokens:
                tokens, decided = most, "memory"
        load = Load(tokens * parallel, kind, parallel, request.micro_batch)
        needed = estimate_served(shape, load)
        more = [found.problem] if found.problem is not None else []
        if request.budget is None and not any(device.kind == "gpu" for device in available):
            more.append("no GPU found, which vLLM usually needs: compared with host memory")
        needed = replace(needed, notes=(*needed.notes, *more))
        return Report(
            facts._replace(quantization=found.quantization, parameters=found.parameters),
            load,
            needed,
            fit_served(shape, load, room),
            available,
            shape.trained,
            requested=request.context,
            context_source=decided if request.context is None else "requested",
            budget=request.budget,
        )

    def _of_shape(
        self,
        facts: Facts,
        shape: ModelShape,
        request: EstimateRequest,
        *,
        projector: int | None = None,
    ) -> Report:
        available = self.devices()
        room: Sequence[Device] | int = available if request.budget is None else request.budget
        load = Load(
            (request.context or 1) * request.parallel,
            request.kv_type or USUAL_CACHE,
            request.parallel,
            request.micro_batch,
            gpu_layers=request.gpu_layers,
            kv_type_v=request.kv_type_v,
        )
        context, decided = _context(request, shape, room, load, projector)
        load = replace(load, context=context * load.parallel)
        needed = estimate(shape, load, projector=projector)
        return Report(
            facts,
            load,
            needed,
            fit(shape, load, room, projector=projector),
            available,
            shape.context or None,
            shape,
            projector,
            requested=request.context,
            context_source=decided,
            budget=request.budget,
        )


def _is_for_vllm(artifact: ModelArtifact, request: EstimateRequest) -> bool:
    """Whether a model is estimated for vLLM; only those that llama.cpp runs are compared."""
    asked = request.source in ("auto", "config") and request.usual is None
    return asked and tensors.is_tensors(artifact)


def _as_packaged(request: EstimateRequest, config: Callable[[], ModelConfig]) -> EstimateRequest:
    """The use with what the artifact sets, where nothing else is given.

    Models that are compared at a usual context are compared at a usual cache, too.
    """
    if request.usual is not None:
        return request
    if request.context is None:
        request = request._replace(packaged=config().context_size)
    if request.kv_type is None and request.kv_type_v is None:
        keys, values = packaged_cache(config())
        request = request._replace(kv_type=keys, kv_type_v=values)
    return request


def packaged_cache(config: ModelConfig) -> tuple[str | None, str | None]:
    """The types that the artifact wants keys and values kept in; None where it has neither."""
    if not config.settings:
        return None, None
    # few artifacts have settings, and the others need not load what all of them mean
    from modelrunner.runtime.packaged import Packaged
    from modelrunner.runtime.settings import changes

    found = changes(Packaged.read(config.settings).others)
    keys, values = (found.get(f"cache_type_{part}") for part in "kv")
    if keys is None and values is None:
        return None, None
    return str(keys or USUAL_CACHE), str(values or USUAL_CACHE)


def _context(
    request: EstimateRequest,
    shape: ModelShape,
    room: Sequence[Device] | int,
    load: Load,
    projector: int | None,
) -> tuple[int, ContextSource]:
    """Return the context of one conversation, as llama.cpp runs it, and what decided it."""
    trained = shape.context or None
    if request.context is not None:
        return running_context(request.context, trained), "requested"
    if request.usual is not None:
        default = default_context(trained, request.packaged, request.usual)
        return default.tokens, default.source
    default = default_context(trained, request.packaged)
    most = default.tokens
    tokens = choose_context(shape, room, ceiling=most, load=load, projector=projector)
    return running_context(tokens, trained), default.source if tokens >= most else "memory"


def variant_of(card: "Card | None", names: Sequence[str]) -> "Variant | None":
    """The row of a card that one of the names is in."""
    found = (card.variant(name) for name in names) if card is not None else ()
    return next((variant for variant in found if variant is not None), None)


def _facts(name: str, variant: "Variant") -> Facts:
    parameters = round(variant.parameters * 10**9) if variant.parameters else None
    return Facts(name, variant.quantization, parameters, variant)


def _shape(card: "Card | None", variant: "Variant") -> ModelShape | None:
    facts = card.shape_of(variant) if card is not None else None
    return shape_from_card(facts, variant.size_bytes or 0) if facts is not None else None


def _answers(card: "Card | None", variant: "Variant", request: EstimateRequest) -> bool:
    """Whether the card has what is asked for, where nothing better can be reached."""
    if request.source == "config":
        return _shape(card, variant) is not None
    return request.source == "auto" and variant.size_bytes is not None


def _measured(report: Report, path: Path) -> Report:
    """The report with llama.cpp's own plan in it; what else fits stays computed."""
    # few ask for it, and the others need not load what starts a child
    from modelrunner.memory.measured import measure

    found = measure(path, report.load, projector=report.projector)
    room = report.devices if report.budget is None else report.budget
    verdict = report.fit
    if report.shape is not None:
        verdict = fit(report.shape, report.load, room, projector=report.projector, needed=found)
    notes = () if report.shape is None else certain_notes(report.shape, report.load)
    return replace(report, estimate=replace(found, notes=notes), fit=verdict)
