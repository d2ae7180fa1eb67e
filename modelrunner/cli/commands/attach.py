"""`modelrunner attach`."""

from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.attaching import attached_to_dict, hand_over
from modelrunner.operations.trust.attach import NOT_STORED, Attachment, find_subject, type_of_file
from modelrunner.units import format_size


@command(
    examples="  modelrunner attach team/model:1 model.spdx.json --type spdx\n"
    "  modelrunner attach ghcr.io/team/model:1 CARD.md --type card --push\n"
    "  modelrunner attach team/model:1 eval.json --type application/vnd.acme.eval+json"
)
def attach(
    context: Context,
    reference: Annotated[str, Argument(metavar="REF", help="Name or ID of a model.")],
    file: Annotated[Path, Argument(metavar="FILE", help="File to attach.")],
    kind: Annotated[
        str,
        Option(
            "--type",
            metavar="TYPE",
            help="What the file is: spdx, cyclonedx, license, card, or a media type.",
        ),
    ],
    push_: Annotated[bool, Option("--push", help="Push it to the model's registry now.")] = False,
) -> None:
    """Attach a file to a model: an SBOM, a license, a card. It goes wherever the model goes."""
    media_type = type_of_file(file, kind)
    subject = find_subject(
        context.store, context.source_for, reference, remote=push_, otherwise=NOT_STORED
    )
    attachment = Attachment.of_file(subject, media_type, file)
    pushed = hand_over(context, subject, attachment, push=push_)
    if context.console.json:
        context.console.emit(attached_to_dict(subject, attachment, pushed=pushed))
        return
    size = format_size(attachment.referrer.manifest.layers[0].size)
    where = ", pushed to its registry" if pushed else ""
    context.console.print(
        f"attached {file.name} ({size}) to {subject.shown}: {attachment.manifest.digest}{where}"
    )
