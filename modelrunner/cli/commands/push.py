"""`modelrunner push`."""

from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import CaFile, LimitRate
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.network import bytes_per_second, limited_workspace
from modelrunner.cli.steps.pushing import push_model, pushed_line, pushed_to_dict
from modelrunner.operations.package.push import to_push
from modelrunner.transfer.limits import Limits


@command(
    examples="  modelrunner push registry.example.com/team/model:1\n"
    "  modelrunner push registry.example.com/team/model:1 --limit-rate 20M --ca-file ca.pem"
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
    timeout: Annotated[
        float | None,
        Option(min=0.001, metavar="SECONDS", help="Overall time limit in seconds."),
    ] = None,
    ca_file: CaFile = None,
) -> None:
    """Push a model to its registry. Blobs that the registry already has are skipped."""
    limits = Limits(connections, bytes_per_second(limit_rate))
    context = context.over(limited_workspace(context, timeout, ca_file))
    model, name = to_push(context.store, reference)
    pushed = push_model(context, model, name, limits)
    if context.console.json:
        context.console.emit({"reference": str(name), **pushed_to_dict(pushed)})
    else:
        context.console.print(pushed_line(name, pushed))
