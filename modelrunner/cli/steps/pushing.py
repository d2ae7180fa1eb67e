"""What commands that push share: progress, and the lines about what was sent."""

from modelrunner.cli.context import Context
from modelrunner.cli.progress.select import progress
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.push import Pushed
from modelrunner.store.store import StoredModel
from modelrunner.transfer.limits import Limits
from modelrunner.units import format_size


def push_model(
    context: Context, model: StoredModel, name: Reference, limits: Limits | None = None
) -> Pushed:
    """Push a model under a name, with progress."""
    with progress(context.console, verb="pushing") as listener:
        return context.workspace.pusher(name, "", listener, limits).push(model, name)


def pushed_to_dict(pushed: Pushed) -> dict[str, object]:
    """Return what was pushed as keys of a JSON object."""
    return {
        "digest": pushed.digest,
        "uploaded_bytes": pushed.uploaded_bytes,
        "skipped_bytes": pushed.skipped_bytes,
    }


def pushed_line(name: Reference, pushed: Pushed) -> str:
    """Return what was pushed as a line."""
    sent, there = format_size(pushed.uploaded_bytes), format_size(pushed.skipped_bytes)
    return f"{name.short}: {pushed.digest} ({sent} uploaded, {there} skipped)"
