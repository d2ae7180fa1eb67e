"""`modelrunner delete`."""

from contextlib import closing
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import CaFile, Timeout
from modelrunner.cli.parser.declared import Argument
from modelrunner.cli.steps.confirm import Yes, confirm
from modelrunner.cli.steps.network import limited_workspace
from modelrunner.errors import UnsupportedArtifactError, UsageError
from modelrunner.oci.reference import HUGGING_FACE, Reference, is_whole_id, names_tag
from modelrunner.operations.delete import delete, plan_deletion, require_repository


@command(
    name="delete",
    examples="  modelrunner delete registry.example.com/team/model:1\n"
    "  modelrunner delete registry.example.com/team/model:1 --yes --json",
)
def delete_model(
    context: Context,
    reference: Annotated[
        str, Argument(metavar="REF", help="Model at a registry, by its tag or its digest.")
    ],
    yes: Yes = False,
    timeout: Timeout = None,
    ca_file: CaFile = None,
) -> None:
    """Delete a tag or a manifest from a registry; asks for confirmation.

    By tag only the tag is removed; by digest the manifest with all of its tags. The local store is
    not changed: `modelrunner rm` removes models from it.
    """
    name = _named(reference)
    context.require_network("delete")
    context = context.over(limited_workspace(context, timeout, ca_file))
    with closing(context.registries.sink_for(name)) as registry:
        plan = plan_deletion(registry, name)
        confirm(context, f"delete {plan.reference.short}", plan.lines, yes=yes)
        deleted = delete(registry, plan)
    if context.console.json:
        context.console.emit(
            {
                "reference": str(plan.reference),
                "digest": str(deleted.digest),
                "untagged": list(deleted.tags),
                "deleted": deleted.is_gone,
            }
        )
        return
    for tag in deleted.tags:
        context.console.print(f"Untagged: {name.with_tag(tag).short}")
    if deleted.is_gone:
        context.console.print(f"Deleted: {name.name}@{deleted.digest}")


def _named(text: str) -> Reference:
    """Return the name of what is deleted, which has to say which tag.

    Raises:
        UsageError: It is an ID, a local name, or names no tag.
        UnsupportedArtifactError: It is a repository of the Hugging Face Hub.
    """
    if is_whole_id(text):
        raise UsageError(
            f"delete needs a model name, got the ID {text}",
            hint=f"write REGISTRY/NAME@sha256:{text.removeprefix('sha256:')}; `modelrunner rm` "
            "removes models from the local store",
        )
    require_repository(text)
    name = Reference.parse(text)
    if name.is_local:
        raise UsageError(
            f"{name.short} is a local name: no registry has it",
            hint=f"`modelrunner rm {name.short}` removes it from the local store",
        )
    if name.registry == HUGGING_FACE:
        raise UnsupportedArtifactError(
            f"{name.short}: the Hugging Face Hub is not an OCI registry",
            hint=f"`modelrunner rm {name.short}` removes it from the local store; files of a "
            "repository are deleted on its website",
        )
    if name.digest is None and not names_tag(text):
        raise UsageError(
            f"{name.name}: no tag given",
            hint=f"name the tag: {name.short}; `modelrunner tags {name.name}` lists them",
        )
    return name
