"""Launch: from a stored model to a server that answers; planned first, then started.

The context is what was asked for, or else as long as the model was trained for, as fits into this
machine, and as is usual. It is told, and never silently less.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelrunner.errors import UnsupportedArtifactError
from modelrunner.gguf.metadata import Metadata
from modelrunner.memory.devices import Device
from modelrunner.memory.estimate import Estimate, estimate
from modelrunner.memory.fit import Budget, Fit, choose_context, fit
from modelrunner.memory.load import Load
from modelrunner.memory.shape import ModelShape
from modelrunner.operations import headers
from modelrunner.runtime.runtime import LaunchSpec
from modelrunner.runtime.threads import usable_cores
from modelrunner.store.store import Store, StoredModel, missing
from modelrunner.units import format_size


@dataclass(frozen=True, slots=True)
class LaunchWish:
    """What the user asks for; None leaves it to the plan."""

    context: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    kv_type: str = "f16"


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """How a model will be started, and whether it fits."""

    name: str
    metadata: Metadata
    spec: LaunchSpec
    estimate: Estimate
    fit: Fit
    available: Sequence[Device]

    @property
    def trained_context(self) -> int | None:
        """Tokens that the model was trained for."""
        return self.metadata.context_length

    def line(self) -> str:
        """One sentence: which model, whether and where it fits, and with which context."""
        quantization = (self.metadata.quantization or "").removeprefix("MOSTLY_")
        # many tags say it already
        told = quantization.lower() in self.name.lower()
        what = self.name if told else f"{self.name} {quantization}"
        needed = format_size(self.estimate.total)
        context = f"context {self.spec.context}"
        if self.trained_context and self.spec.context < self.trained_context:
            context += f" of {self.trained_context}"
        return f"{what}: {self._verdict(needed)}; {context}, {self.spec.threads} threads"

    def _verdict(self, needed: str) -> str:
        place = self._place()
        match self.fit.verdict:
            case "fits":
                return f"fits, needs {needed} of {place}"
            case "partial":
                layers = self.fit.gpu_layers
                return f"fits in part, {layers} layers on the GPU: needs {needed} of {place}"
            case "no":
                return f"does not fit: needs {needed} of {place}"
            case _:
                return f"needs at least {needed} of {place}, how much more is not known"

    def _place(self) -> str:
        budget = self.fit.budget_bytes or Budget.of(self.available).together
        on_gpu = any(device.kind == "gpu" for device in self.available) and self.fit.gpu_layers
        return f"{format_size(budget)} {'GPU memory' if on_gpu else 'memory'}"


def plan_launch(
    store: Store, model: StoredModel, name: str, wish: LaunchWish, available: Sequence[Device]
) -> LaunchPlan:
    """Decides how to start a model.

    Args:
        store: Where it is.
        model: The model.
        name: What the user calls it.
        wish: What the user asks for.
        available: The devices of this machine.

    Raises:
        CorruptStoreError: A blob is missing or damaged.
        MalformedGGUFError: The weights are no GGUF.
        UnsupportedArtifactError: It is no model to chat with.
    """
    for blob in model.manifest.blobs:
        if store.blobs.state(blob) != "good":
            raise missing(model, blob)
    found = headers.of_stored(model)
    metadata = found.metadata
    if metadata.is_embedding:
        raise UnsupportedArtifactError(
            f"{name} is an embedding model: it makes vectors, it does not chat",
            hint='llama-server --embeddings -m "$(modelrunner path '
            f'{name})" serves it under /v1/embeddings',
            architecture=metadata.architecture,
        )
    shape = ModelShape.from_header(found.first, shards=found.shards[1:])
    base = Load(wish.context or 1, wish.kv_type, gpu_layers=wish.gpu_layers)
    context = wish.context or choose_context(
        shape, available, load=base, projector=found.projector_bytes
    )
    load = Load(context, wish.kv_type, gpu_layers=wish.gpu_layers)
    view = model.view()
    artifact = model.artifact
    spec = LaunchSpec(
        model=model.weights(),
        name=name,
        context=context,
        threads=wish.threads or usable_cores(),
        api_key=secrets.token_urlsafe(32),
        gpu_layers=wish.gpu_layers,
        cache_type_k=wish.kv_type,
        cache_type_v=wish.kv_type,
        mmproj=_file(view, artifact.projector and artifact.projector.path),
        chat_template=_file(view, artifact.template and artifact.template.path),
    )
    return LaunchPlan(
        name,
        metadata,
        spec,
        estimate(shape, load, projector=found.projector_bytes),
        fit(shape, load, available, projector=found.projector_bytes),
        available,
    )


def _file(view: Path, path: object) -> Path | None:
    return view / str(path) if path else None
