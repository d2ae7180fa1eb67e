"""After a start: what the runtime says that it allocated is kept, for the next estimate."""

from modelrunner.cli.context import Context
from modelrunner.errors import ModelRunnerError
from modelrunner.operations.calibration import (
    FILE_NAME,
    Observation,
    Observations,
    reported_bytes,
)
from modelrunner.operations.launch import LaunchPlan
from modelrunner.runtime.child_server import ChildServer
from modelrunner.runtime.server import Server
from modelrunner.store.store import StoredModel


def learn(context: Context, server: Server, model: StoredModel, plan: LaunchPlan) -> None:
    """Keeps what a server that is ready has logged of its buffers, beside what was computed."""
    usual = plan.spec.gpu_layers is None and plan.spec.mmproj is None
    if not isinstance(server, ChildServer) or not usual or not plan.estimate.is_complete:
        return
    observed = reported_bytes(server.log.read_text(encoding="utf-8", errors="replace"))
    if observed is None:
        return
    computed, name = plan.estimate.total, str(model.digest)
    try:
        Observations(context.settings.state / FILE_NAME).add(
            Observation(name, server.name, plan.spec.context, computed, observed)
        )
    except ModelRunnerError:
        # the chat does not depend on it
        return
