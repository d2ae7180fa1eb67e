"""`modelrunner copy`."""

from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import CaFile, CopiedBlobs, CopiedReferrers, LimitRate, Timeout
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.progress.select import progress
from modelrunner.cli.steps.network import bytes_per_second, limited_workspace
from modelrunner.cli.views.copy import finish, show_copied, show_each
from modelrunner.errors import UsageError
from modelrunner.operations.copy.copy import needs_network
from modelrunner.transfer.limits import Limits


@command(
    name="copy",
    examples="  modelrunner copy ai/smollm2:135M registry.example.com/ai/smollm2:135M\n"
    "  modelrunner copy hf.co/unsloth/gemma-3-270m-it-GGUF:Q4_K_M registry.example.com/gemma:270m\n"
    "  modelrunner copy store:ai/smollm2 registry.example.com/team/smollm2:1 --tag stable\n"
    "  modelrunner copy ai/smollm2:135M archive:smollm2.tar\n"
    "  modelrunner copy --all-tags --match '135M-*' ai/smollm2 registry.example.com/ai/smollm2\n"
    "  modelrunner copy --all-tags archive:smollm2.tar registry.example.com/ai/smollm2",
)
def copy_model(
    context: Context,
    source: Annotated[
        str,
        Argument(
            metavar="SRC",
            help="What to copy: REF, hf.co/ORG/REPO[:QUANT], store:REF, archive:FILE[:NAME] or"
            " dir:DIRECTORY[:NAME].",
        ),
    ],
    destination: Annotated[
        str,
        Argument(
            metavar="DST",
            help="Where to: REF, store:REF, archive:FILE[:NAME] or dir:DIRECTORY[:NAME].",
        ),
    ],
    tag: Annotated[
        list[str] | None,
        Option("--tag", metavar="TAG", help="Another tag to set at DST; can be repeated."),
    ] = None,
    all_tags: Annotated[
        bool,
        Option(
            "--all-tags",
            help="Copy all tags of the repository SRC to the one DST; either may be an archive.",
        ),
    ] = False,
    match: Annotated[
        list[str] | None,
        Option(
            "--match",
            metavar="PATTERN",
            help="With --all-tags, copy only tags that match, such as '135M-*'; can be repeated.",
        ),
    ] = None,
    referrers: CopiedReferrers = "all",
    connections: CopiedBlobs = None,
    limit_rate: LimitRate = None,
    timeout: Timeout = None,
    ca_file: CaFile = None,
) -> None:
    """Copy models between registries, digest for digest, without keeping anything on this machine.

    Anything that registries keep can be copied: models of any format, indexes, images. Blobs that
    the destination has are skipped, or mounted from another of its repositories.
    """
    if match and not all_tags:
        raise UsageError("--match needs --all-tags", hint="add --all-tags")
    if tag and all_tags:
        raise UsageError("--tag and --all-tags cannot be combined", hint="remove one of the two")
    if needs_network(source, destination):
        context.require_network("copy")
    limits = Limits(connections, bytes_per_second(limit_rate))
    context = context.over(limited_workspace(context, timeout, ca_file))
    with progress(context.console, verb="copying") as listener:
        copying = context.workspace.copying(listener, limits, referrers)
        outcomes = (
            show_each(context, copying.copy_all(source, destination, match or ()))
            if all_tags
            else [copying.copy(source, destination, tag or ())]
        )
    if all_tags:
        finish(context, outcomes)
    else:
        show_copied(context, outcomes[0])
