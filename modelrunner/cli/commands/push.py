"""`modelrunner push`."""

from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import CaFile, CopiedReferrers, LimitRate, Shape, Timeout
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.network import bytes_per_second, limited_workspace
from modelrunner.cli.steps.pushing import (
    platforms_to_list,
    push_image,
    push_model,
    pushed_line,
    pushed_to_dict,
)
from modelrunner.errors import UsageError
from modelrunner.operations.package.push import to_push
from modelrunner.transfer.limits import Limits


@command(
    examples="  modelrunner push registry.example.com/team/model:1\n"
    "  modelrunner push registry.example.com/team/model:1 --limit-rate 20M --ca-file ca.pem\n"
    "  modelrunner push ai/smollm2 --as image --to registry.example.com/team/smollm2:image"
)
def push(
    context: Context,
    reference: Annotated[
        str, Argument(metavar="REF", help="Local model to push; its name says where.")
    ],
    connections: Annotated[
        int | None,
        Option(
            min=1,
            max=16,
            metavar="N",
            help="Number of blobs to upload at the same time (default: 4).",
        ),
    ] = None,
    limit_rate: LimitRate = None,
    timeout: Timeout = None,
    ca_file: CaFile = None,
    as_: Annotated[
        Shape,
        Option(
            "--as",
            help="What to push: the artifact as it is, or a container image that has the files"
            " under /models (a modelcar) for Kubernetes image volumes and KServe.",
        ),
    ] = Shape.ARTIFACT,
    to: Annotated[
        str | None,
        Option(metavar="NAME", help="Name at the registry (default: that of the model)."),
    ] = None,
    referrers: CopiedReferrers = "all",
) -> None:
    """Push a model to its registry. Blobs that the registry already has are skipped."""
    limits = Limits(connections, bytes_per_second(limit_rate))
    context = context.over(limited_workspace(context, timeout, ca_file))
    model, name, target = to_push(context.store, reference, to)
    if as_ is Shape.IMAGE and referrers != "all":
        raise UsageError(
            "--referrers cannot be combined with --as image: nothing refers to the image",
            hint="remove --referrers",
        )
    value: dict[str, object] = {"reference": str(target)}
    if as_ is Shape.IMAGE:
        pushed, image = push_image(context, model, name, target, limits)
        value |= {"as": str(as_), "platforms": platforms_to_list(image)}
    else:
        pushed = push_model(context, model, target, limits, referrers)
    if context.console.json:
        context.console.emit({**value, **pushed_to_dict(pushed)})
    else:
        context.console.print(pushed_line(target, pushed))
