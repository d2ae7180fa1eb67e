"""What commands that push share: progress, and the lines about what was sent."""

from typing import TYPE_CHECKING

from modelrunner.cli.context import Context
from modelrunner.cli.progress.select import progress
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.push import Pushed
from modelrunner.store.store import StoredModel
from modelrunner.transfer.limits import Limits
from modelrunner.units import counted, format_size

if TYPE_CHECKING:
    from modelrunner.operations.package.image import ModelImage


def push_model(
    context: Context,
    model: StoredModel,
    name: Reference,
    limits: Limits | None = None,
    referrers: str = "all",
) -> Pushed:
    """Push a model under a name, with progress."""
    with progress(context.console, verb="pushing") as listener:
        pusher = context.workspace.pusher(name, "", listener, limits, referrers)
        pushed = pusher.push(model, name)
    for problem in () if pushed.referrers is None else pushed.referrers.problems:
        context.console.warn(f"{name.short}: not all that refers to it was pushed: {problem}")
    return pushed


def push_image(
    context: Context,
    model: StoredModel,
    name: Reference,
    target: Reference,
    limits: Limits | None = None,
) -> tuple[Pushed, "ModelImage"]:
    """Push a model as a container image, with progress of its reading and of its upload."""
    # most pushes are of the artifact as it is
    from modelrunner.operations.package.image import image_of

    # before all of it is read
    context.require_network("push")
    with progress(context.console, verb="hashing") as listener:
        image = image_of(context.store, model, name, listener)
    with progress(context.console, verb="pushing") as listener:
        pushed = context.workspace.pusher(target, "", listener, limits).push_image(image, target)
    return pushed, image


def platforms_to_list(image: "ModelImage") -> list[dict[str, str]]:
    """Return the images for each platform as JSON has them."""
    return [
        {"platform": str(each.platform), "digest": str(each.manifest.digest)}
        for each in image.images
    ]


def pushed_to_dict(pushed: Pushed) -> dict[str, object]:
    """Return what was pushed as keys of a JSON object."""
    return {
        "digest": pushed.digest,
        "uploaded_bytes": pushed.uploaded_bytes,
        "skipped_bytes": pushed.skipped_bytes,
        **_referrers(pushed),
    }


def _referrers(pushed: Pushed) -> dict[str, object]:
    found = pushed.referrers
    if found is None:
        return {}
    return {"referrers": {"pushed": found.count, "problems": list(found.problems)}}


def pushed_line(name: Reference, pushed: Pushed) -> str:
    """Return what was pushed as a line."""
    sent, there = format_size(pushed.uploaded_bytes), format_size(pushed.skipped_bytes)
    also = "" if pushed.referrers is None else f", {counted(pushed.referrers.count, 'referrer')}"
    return f"{name.short}: {pushed.digest} ({sent} uploaded, {there} skipped{also})"
