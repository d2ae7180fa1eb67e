"""Export: write deployment files for a model, pinned by its digest.

A model that is here is described from the store, any other from its registry; nothing is pulled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import import_module
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from modelrunner.errors import (
    InvalidReferenceError,
    MalformedManifestError,
    ModelNotFoundError,
    UsageError,
)
from modelrunner.gguf.metadata import Metadata
from modelrunner.memory.context import default_context, running_context
from modelrunner.oci.media_types import ANNOTATION_PATH
from modelrunner.oci.model.artifact import Layer, ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.reference import Reference, is_whole_id
from modelrunner.operations.estimate.estimate import packaged_cache
from modelrunner.operations.estimate.report import EstimateRequest, Facts, Report
from modelrunner.operations.export.plan import ExportPlan, Files, checked_name, name_for
from modelrunner.operations.export.systemd import hidden
from modelrunner.operations.launch.plan import with_thoughts
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.operations.model import configs, headers
from modelrunner.operations.model.capabilities import capabilities_of_headers
from modelrunner.operations.model.resolve import artifact_at
from modelrunner.operations.model.suggestions import pin
from modelrunner.runtime.backends.docker.spec import IMAGES
from modelrunner.runtime.base import RuntimeOptions
from modelrunner.runtime.packaged import Packaged
from modelrunner.store.store import Store, StoredModel
from modelrunner.system.installation import Installation

if TYPE_CHECKING:
    from modelrunner.operations.estimate.estimate import Estimator
    from modelrunner.registry.source import Source

USUAL_CONTEXT = 8192
"""Tokens, where neither the user nor the artifact sets a context and the model was trained for as
many: the memory of the machine that it is exported for is not known."""


class Kind(StrEnum):
    """What a model is handed over to."""

    COMPOSE = "compose"
    K8S = "k8s"
    KUBERNETES = "kubernetes"
    KSERVE = "kserve"
    QUADLET = "quadlet"
    LLAMA_PRESET = "llama-preset"
    SYSTEMD = "systemd"
    LAUNCHD = "launchd"


_MODULES = {
    Kind.COMPOSE: "compose",
    Kind.K8S: "kubernetes",
    Kind.KUBERNETES: "kubernetes",
    Kind.KSERVE: "kserve",
    Kind.QUADLET: "quadlet",
    Kind.LLAMA_PRESET: "preset",
    Kind.SYSTEMD: "systemd",
}
_NO_SYSTEM = "llama-server keeps no system prompt: send the packaged one with each request"
_NEED_FILES = {Kind.LLAMA_PRESET, Kind.SYSTEMD}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What the user asks for; None leaves it to the export.

    Attributes:
        context: Tokens of one conversation.
        kv_type: What the cache is kept in; None for the artifact's, or else f16.
        port: Where it is offered.
        name: What services and units are called.
        image: The image that serves.
        image_note: Where that comes from, in words.
        puller: An image that has this program.
        rpc: RPC servers of llama.cpp.
        program: The path of `llama-server`.
        volume: The image that has the model's files, by its name.
    """

    context: int | None = None
    kv_type: str | None = None
    port: int = 8080
    name: str | None = None
    image: str | None = None
    image_note: str | None = None
    puller: str | None = None
    rpc: str | None = None
    program: str | None = None
    volume: str | None = None


@dataclass(frozen=True, slots=True)
class Exporter:
    """Writes exports; `installation` is what pulls the model where it is going to."""

    store: Store
    source_for: "Callable[[Reference], Source]"
    estimator: "Estimator"
    installation: Installation

    def export(self, kind: Kind, text: str, request: ExportRequest) -> "Export":
        """The files that hand a model over.

        Args:
            kind: To what.
            text: The model, by name or ID.
            request: How it is to be served.

        Raises:
            ModelNotFoundError: It is not in the store, and this kind needs a path; or unknown.
            UsageError: It has no name to be pulled by, or a value cannot be written so.
            TransferError: It is not here, and its registry does not answer.
        """
        planned = self.planned(kind, text, request)
        module = import_module(f"modelrunner.operations.export.{_MODULES[kind]}")
        files = module.files(planned.plan)
        return Export(kind, planned.plan, planned.report, files, planned.warnings)

    def planned(self, kind: Kind, text: str, request: ExportRequest) -> "Planned":
        """What an export of a model says; arguments and errors are those of `export`."""
        name = request.name and checked_name(request.name)
        stored = self.store.lookup(text)
        found = self._stored(text, stored) if stored is not None else self._remote(kind, text)
        if found.pinned.is_local and kind not in _NEED_FILES and request.volume is None:
            raise UsageError(
                f"{found.pinned.short.partition('@')[0]} is a local name, which no other "
                "machine can pull",
                hint="name it as its registry does: `modelrunner tag SOURCE TARGET`",
            )
        config = found.config()
        packaged = Packaged.read(config.settings)
        report = found.estimated(_use(request, found, config))
        problem = found.headers.projector_problem
        advised, thought = _advised(found, packaged)
        plan = ExportPlan(
            pinned=found.pinned,
            name=name or name_for(found.pinned),
            files=_files(found.artifact, with_projector=problem is None),
            context=report.context,
            kv_types=report.load.kv_types,
            memory=report.estimate.total,
            port=request.port,
            image=request.image or IMAGES["none"],
            image_note=request.image_note,
            source=self.installation.source,
            origin=self.installation.origin,
            puller=request.puller,
            rpc=request.rpc,
            embedding=found.metadata.is_embedding and not found.metadata.is_ranking,
            ranking=found.metadata.is_ranking,
            folder=stored.view() if stored is not None and kind in _NEED_FILES else None,
            advised=advised,
            volume=None if request.volume is None else self._volume(request.volume, found),
            asks=packaged.line() or None,
        )
        if request.program is not None:
            plan = replace(plan, program=request.program)
        system = _NO_SYSTEM if packaged.values.get("system") else None
        unseen = hidden(request.program) if request.program is not None else None
        warnings = tuple(filter(None, (problem, packaged.warning, thought, system, unseen)))
        return Planned(plan, report, warnings)

    def _volume(self, text: str, found: "_Found") -> str:
        """The image that a volume is made of, pinned by what its name stands for now.

        Raises:
            UsageError: It is not an image, or of another model.
        """
        reference = Reference.parse(text)
        source = self.source_for(reference)
        pinned = pin(source, reference)
        image = artifact_at(source, replace(pinned, image=True))
        if image.family != "image":
            raise UsageError(
                f"--image-volume: {reference.short} is a model artifact, not a container image",
                hint=f"push one: `modelrunner push {found.alias} --as image --to NAME`",
            )
        said = {layer.annotations.get(ANNOTATION_PATH) for layer in image.manifest.layers}
        weights = str(found.artifact.weights[0].path)
        if said != {None} and weights not in said:
            raise UsageError(
                f"--image-volume: {reference.short} does not have {weights} of {found.alias}",
                hint=f"push an image of this model: `modelrunner push {found.alias} --as image "
                "--to NAME`",
            )
        # a tag beside the digest would say nothing, and not every runtime takes both
        return str(replace(pinned, tag=None))

    def _stored(self, text: str, model: StoredModel) -> "_Found":
        name = _name_of(text, model)
        found = headers.of_stored(model)
        card = self.estimator.card(name.short, [name.tag or ""])

        def estimated(request: EstimateRequest) -> Report:
            return self.estimator.of_stored(model, name.short, request, card)

        def config() -> ModelConfig:
            return model.config

        pinned = name.with_digest(model.digest)
        return _Found(pinned, model.artifact, found, config, estimated)

    def _remote(self, kind: Kind, text: str) -> "_Found":
        if is_whole_id(text):
            # no registry knows a model by it
            self.store.resolve(text)
        reference = Reference.parse(text)
        if kind in _NEED_FILES:
            raise ModelNotFoundError(
                f"{reference.short} is not in the local store: `export {kind}` needs the "
                "path of its files",
                hint=f"`modelrunner pull {reference.short}`",
            )
        source = self.source_for(reference)
        pinned = pin(source, reference)
        artifact = artifact_at(source, pinned)
        # an index names the model, and what is pulled is the model's own manifest
        pinned = pinned.with_digest(artifact.manifest.digest)
        found = headers.of_remote(source, pinned, artifact)

        def estimated(request: EstimateRequest) -> Report:
            return self.estimator.of_remote(source, pinned, request, Facts(reference.short))

        def config() -> ModelConfig:
            return configs.of_remote(source, pinned, artifact)

        return _Found(pinned, artifact, found, config, estimated)


@dataclass(frozen=True, slots=True)
class Planned:
    """What an export of a model will say.

    Attributes:
        plan: What.
        report: What its memory rests on.
        warnings: What of the model is left out, and why.
    """

    plan: ExportPlan
    report: Report
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Export:
    """What was made.

    Attributes:
        kind: For what.
        plan: What it says.
        report: What its memory rests on.
        files: Texts, by the names of their files.
        warnings: What of the model is left out, and why.
    """

    kind: Kind
    plan: ExportPlan
    report: Report
    files: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """It as JSON has it."""
        return {
            "kind": str(self.kind),
            "reference": self.plan.pinned.short,
            "digest": str(self.plan.pinned.digest),
            "context": self.plan.context,
            "memory_bytes": self.plan.memory,
            "limit_bytes": self.plan.limit,
            "files": dict(self.files),
        }


@dataclass(frozen=True, slots=True)
class _Found:
    pinned: Reference
    artifact: ModelArtifact
    headers: headers.Headers
    config: Callable[[], ModelConfig]
    estimated: Callable[[EstimateRequest], Report]

    @property
    def alias(self) -> str:
        """The name of the model without its digest."""
        return self.pinned.short.partition("@sha256:")[0]

    @property
    def metadata(self) -> Metadata:
        """What the weights say of the model."""
        return self.headers.metadata


def _name_of(text: str, model: StoredModel) -> Reference:
    """The name that it can be pulled by: the one that was typed, or else its first."""
    typed = _parsed(text)
    if typed is not None and typed.pinned:
        return typed
    named = None if typed is None else model.name_for(typed)
    if named is not None:
        return named
    if not model.references:
        raise UsageError(
            f"{text[:200]} has no name, and elsewhere it is pulled by one",
            hint="name it as its registry does: `modelrunner tag ID NAME`",
        )
    return model.references[0]


def _parsed(text: str) -> Reference | None:
    try:
        return Reference.parse(text)
    except InvalidReferenceError:
        # an ID with its `sha256:`
        return None


def _advised(found: _Found, packaged: Packaged) -> tuple[RuntimeOptions, str | None]:
    """What the artifact advises and llama-server can be told, and what to say of it."""
    request = replace(LaunchRequest.of(packaged.others), sampling=packaged.sampling)
    note = None
    if request.think is not None:
        name = found.pinned.short.partition("@")[0]
        request, note = with_thoughts(request, name, capabilities_of_headers(found.headers))
    return RuntimeOptions(**request.passed_on()), note


def _use(request: ExportRequest, found: _Found, config: ModelConfig) -> EstimateRequest:
    """What memory is estimated for."""
    metadata = found.metadata
    kv_type, values = packaged_cache(config) if request.kv_type is None else (request.kv_type, None)
    # where it goes, memory is not known: the artifact's word counts, and else what is usual
    packaged = None if request.context is not None else config.context_size
    if not (metadata.is_embedding or metadata.is_ranking):
        return EstimateRequest(
            request.context, kv_type, usual=USUAL_CONTEXT, packaged=packaged, kv_type_v=values
        )
    # an encoder computes its text at once
    trained = metadata.context_length
    tokens = request.context or default_context(trained, packaged, USUAL_CONTEXT).tokens
    context = running_context(tokens, trained)
    return EstimateRequest(context, kv_type, micro_batch=context, kv_type_v=values)


def _files(artifact: ModelArtifact, *, with_projector: bool) -> Files:
    first, template, adapter = artifact.weights[0], artifact.template, artifact.adapter
    projector = artifact.projector if with_projector else None
    return Files(
        _path(first),
        _path(projector) if projector else None,
        _path(template) if template else None,
        _path(adapter) if adapter else None,
    )


def _path(layer: Layer) -> PurePosixPath:
    if layer.path is None:
        raise MalformedManifestError(f"the layer {layer.descriptor.digest} has no file name")
    return layer.path
