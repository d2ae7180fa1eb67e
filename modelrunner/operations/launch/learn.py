"""What earlier starts of a model took counts for the next plan; what this one takes is kept."""

from collections.abc import Mapping
from pathlib import Path

from modelrunner.disk.inside import read_inside
from modelrunner.errors import ModelRunnerError, RuntimeUnavailableError, UsageError
from modelrunner.operations.estimate.observations import (
    Circumstances,
    Experience,
    Observation,
    Observations,
    backends,
    reported_bytes,
    weights_key,
)
from modelrunner.operations.launch.plan import LaunchPlan
from modelrunner.runtime.base import LaunchSpec, Runtime, Server
from modelrunner.runtime.select import select
from modelrunner.store.store import StoredModel


def experience_of(
    path: Path, preferred: str, *, environ: Mapping[str, str], image: str, library: Path
) -> Experience:
    """Return what counts of earlier runs, whatever runtime served them.

    Args:
        path: The file with the observations.
        preferred: The configured runtime.
        environ: The environment, where runtimes are found.
        image: The image of the runtime `docker`.
        library: The directory of installed runtimes.
    """

    def found(name: str) -> Runtime | None:
        try:
            return select(name, environ=environ, image=image, library=library)
        except (RuntimeUnavailableError, UsageError):
            return None

    def preferred_name() -> str | None:
        runtime = found(preferred)
        return None if runtime is None else runtime.name

    def build_of(name: str) -> str | None:
        runtime = found(name)
        return None if runtime is None else runtime.build()

    return Experience(Observations(path), preferred_name, build_of)


def as_seen(
    known: Experience, runtime: Runtime, model: StoredModel, plan: LaunchPlan
) -> LaunchPlan:
    """Return the plan with what this runtime reported when it ran the model like this before."""
    if not _is_usual(plan) or not known.observations.path.exists():
        return plan
    own = [
        entry
        for entry in known.of(weights_key(model.artifact), _circumstances(plan))
        if (entry.runtime, entry.context) == (runtime.name, plan.spec.context)
    ]
    return plan.as_seen(own[-1]) if own else plan


def learn(known: Experience, server: Server, model: StoredModel, plan: LaunchPlan) -> None:
    """Keep what a server that is ready has logged of its buffers, beside what was computed."""
    if server.log is None or not _is_usual(plan):
        return
    # where it has cut the context, this is not what was computed
    if server.context is not None and server.context < plan.spec.context:
        return
    log = read_inside(server.log).decode(errors="replace")
    observed = reported_bytes(log, plan.estimate.weights)
    version = known.build_of(server.name)
    if observed is None or version is None:
        return
    entry = Observation(
        weights_key(model.artifact),
        server.name,
        version,
        plan.spec.context,
        _circumstances(plan),
        plan.estimate.total - plan.estimate.kept,
        observed.needed,
        observed.mapped,
    )
    try:
        known.observations.add(entry)
    except ModelRunnerError:
        # the chat does not depend on it
        return


_UNUSUAL = (
    *("mmproj", "draft_kind", "raw_flags", "embedding", "adapters", "devices", "main_gpu"),
    *("split_mode", "tensor_split", "cpu_moe_layers", "swa_full", "kv_unified"),
)
"""Fields by which more or something else is allocated, elsewhere than circumstances say."""


def _is_usual(plan: LaunchPlan) -> bool:
    """Whether what is allocated is what was computed, no more: the model, and its context."""
    spec = plan.spec
    usual = LaunchSpec(
        model=spec.model, name=spec.name, context=spec.context, threads=0, api_key=""
    )
    changed = any(getattr(spec, name) != getattr(usual, name) for name in _UNUSUAL)
    return plan.estimate.is_complete and not changed


def _circumstances(plan: LaunchPlan) -> Circumstances:
    spec = plan.spec
    return Circumstances(
        backends(plan.available),
        spec.gpu_layers,
        spec.cache_type_k,
        spec.cache_type_v,
        spec.flash_attention,
        spec.parallel,
        spec.micro_batch,
    )
