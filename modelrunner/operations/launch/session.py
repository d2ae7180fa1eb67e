"""A launch: the block in which a planned model is served."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from modelrunner.disk.files import STATE_HINT, disk_errors
from modelrunner.disk.inside import open_inside
from modelrunner.errors import RuntimeFailedError
from modelrunner.operations.launch.builds import Builds
from modelrunner.operations.launch.plan import LaunchPlan
from modelrunner.runtime.base import Progress, Runtime, Server, unheard
from modelrunner.runtime.child.failure import broken_off

READY_WITHIN_S = 600.0
Remembered = tuple[Builds, str]
"""The builds that models worked with, and what the model is known by there: `weights_key`."""


@contextmanager
def started(
    runtime: Runtime,
    plan: LaunchPlan,
    logs: Path,
    waiting: AbstractContextManager[Progress] | None = None,
    remembered: Remembered | None = None,
) -> Iterator[Server]:
    """Serve a model for the length of a block; its log is kept only if something goes wrong.

    Args:
        runtime: What serves.
        plan: How.
        logs: The directory of logs.
        waiting: A block around the time until the model answers; it gives what takes progress.
        remembered: The model, and the builds that models worked with.

    Raises:
        RuntimeUnavailableError: The runtime is not installed.
        RuntimeFailedError: It refused the model, or ended.
        StoreAccessError, DiskFullError: The log cannot be written.
    """
    log = _log_file(logs, plan.name)
    with _explaining(runtime, plan, remembered):
        begun = runtime.start(plan.spec, log)
    with begun as server:
        with (
            _explaining(runtime, plan, remembered),
            waiting or nullcontext(unheard) as tick,
        ):
            server.wait_until_ready(READY_WITHIN_S, tick)
        if remembered is not None:
            remembered[0].note(remembered[1], runtime)
        try:
            yield server
        except RuntimeFailedError as exc:
            raise broken_off(exc, log) from exc
    log.unlink(missing_ok=True)


@contextmanager
def _explaining(
    runtime: Runtime, plan: LaunchPlan, remembered: Remembered | None
) -> Iterator[None]:
    """The block in which a start fails with a word about the build that worked before."""
    try:
        yield
    except RuntimeFailedError as exc:
        if remembered is None:
            raise
        builds, model = remembered
        raise builds.explained(exc, model, plan.name, runtime) from exc


def _log_file(folder: Path, name: str) -> Path:
    safe = "".join(mark if mark.isascii() and mark.isalnum() else "-" for mark in name)
    log = folder / f"run-{safe[:80]}-{os.getpid()}.log"
    with disk_errors(folder, STATE_HINT):
        folder.mkdir(parents=True, exist_ok=True)
        # the runtime's process opens it: here the error has its hint
        open_inside(log, "append", private=True).close()
    return log
