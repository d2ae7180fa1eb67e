"""Around a start: what was seen of the model before is told, and what is seen now is kept."""

from pathlib import Path

from modelrunner.cli.context import Context
from modelrunner.disk.inside import read_inside
from modelrunner.errors import ModelRunnerError, RuntimeUnavailableError, UsageError
from modelrunner.operations.estimate.estimate import OBSERVATIONS_FILE
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
from modelrunner.runtime.backends.llama_server import LlamaServer
from modelrunner.runtime.backends.python_package import PythonRuntime
from modelrunner.runtime.base import Runtime, Server
from modelrunner.runtime.child.server import ChildServer
from modelrunner.runtime.select import select
from modelrunner.store.store import StoredModel


def experience_of(context: Context) -> Experience:
    """What counts of earlier runs, whatever served them."""

    def found(name: str) -> Runtime | None:
        settings = context.settings
        try:
            return select(name, environ=context.environ, image=settings.container_image)
        except (RuntimeUnavailableError, UsageError):
            return None

    def preferred() -> str | None:
        runtime = found(context.settings.runtime)
        return None if runtime is None else runtime.name

    def build_of(name: str) -> str | None:
        runtime = found(name)
        return None if runtime is None else build(runtime)

    return Experience(Observations(context.settings.state / OBSERVATIONS_FILE), preferred, build_of)


def as_seen(context: Context, runtime: Runtime, model: StoredModel, plan: LaunchPlan) -> LaunchPlan:
    """The plan with what this runtime reported when it ran the model like this before."""
    known = experience_of(context)
    if not _is_usual(plan) or not known.observations.path.exists():
        return plan
    own = [
        entry
        for entry in known.of(weights_key(model.artifact), _circumstances(plan))
        if (entry.runtime, entry.context) == (runtime.name, plan.spec.context)
    ]
    return plan.as_seen(own[-1]) if own else plan


def learn(context: Context, server: Server, model: StoredModel, plan: LaunchPlan) -> None:
    """Keeps what a server that is ready has logged of its buffers, beside what was computed."""
    if not isinstance(server, ChildServer) or not _is_usual(plan):
        return
    # where it has cut the context, this is not what was computed
    if server.context is not None and server.context < plan.spec.context:
        return
    observed = reported_bytes(read_inside(server.log).decode(errors="replace"))
    known = experience_of(context)
    version = known.build_of(server.name)
    if observed is None or version is None:
        return
    entry = Observation(
        weights_key(model.artifact),
        server.name,
        version,
        plan.spec.context,
        _circumstances(plan),
        plan.estimate.total,
        observed,
    )
    try:
        known.observations.add(entry)
    except ModelRunnerError:
        # the chat does not depend on it
        return


def build(runtime: Runtime) -> str | None:
    """Which build of a runtime is here, without starting it; None where that cannot be told."""
    if isinstance(runtime, PythonRuntime):
        return runtime.version()
    program = runtime.availability().detail if isinstance(runtime, LlamaServer) else None
    if program is None:
        return None
    try:
        found = Path(program).stat()
    except OSError:
        return None
    # to ask it for its version would start its GPU
    return f"{found.st_size} bytes of {found.st_mtime_ns}"


def _is_usual(plan: LaunchPlan) -> bool:
    """Whether what is allocated is what was computed, no more: the model, and its context."""
    spec = plan.spec
    more = spec.mmproj or spec.draft_model or spec.raw_flags or spec.embedding
    return plan.estimate.is_complete and not more


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
