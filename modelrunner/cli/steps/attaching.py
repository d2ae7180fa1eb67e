"""What commands share that make something refer to a model."""

from contextlib import closing

from modelrunner.cli.context import Context
from modelrunner.operations.trust.attach import Attachment, Subject, registry_name


def hand_over(context: Context, subject: Subject, attachment: Attachment, *, push: bool) -> bool:
    """Keep what refers to a model where the model is in the store, and push it where asked.

    Returns:
        Whether it was pushed.
    """
    # nothing is kept that cannot be sent
    name = registry_name(subject) if push else None
    if name is not None:
        context.require_network("push")
    if subject.stored is not None:
        attachment.keep(context.store, subject.stored)
    if name is None:
        return False
    with closing(context.registries.sink_for(name)) as sink:
        attachment.push(sink, subject, name, context.registries.backoff)
    return True


def attached_to_dict(
    subject: Subject, attachment: Attachment, *, pushed: bool
) -> dict[str, object]:
    """Return what refers to a model now, as keys of a JSON object."""
    return {
        "reference": None if subject.name is None else str(subject.name),
        "digest": str(subject.descriptor.digest),
        "referrer": attachment.referrer.facts(),
        "stored": subject.stored is not None,
        "pushed": pushed,
    }
