"""`modelrunner outdated` and `modelrunner update`."""

from collections.abc import Sequence
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.pulling import pull_many
from modelrunner.cli.views.pull import Result, show_all
from modelrunner.errors import UsageError
from modelrunner.frozen import replace
from modelrunner.oci.reference import Reference
from modelrunner.operations.outdated import Standing, difference, names, standings
from modelrunner.operations.pull.outcome import Pulled
from modelrunner.store.store import StoredModel
from modelrunner.units import counted

_HEADINGS = ("MODEL NAME", "LOCAL", "REMOTE", "STATUS")


@command(examples="  modelrunner outdated\n  modelrunner outdated --diff ai/smollm2")
def outdated(
    context: Context,
    references: Annotated[
        list[str] | None,
        Argument(metavar="[REF...]", help="Models to check (default: all local models)."),
    ] = None,
    diff: Annotated[
        bool,
        Option("--diff", help="Show what is different; needs one more request per model."),
    ] = False,
    all_: Annotated[bool, Option("--all", help="Also show models that are up to date.")] = False,
) -> None:
    """List local models whose tags have moved in their registry. Sends HEAD requests only."""
    context.require_network("comparing models with their registries")
    found = standings(_asked(context, references), context.source_for, diff=diff)
    shown = [entry for entry in found if all_ or entry.status != "up-to-date"]
    if context.console.json:
        context.console.emit([_to_dict(entry) for entry in shown])
    elif context.console.quiet:
        for entry in shown:
            if entry.status == "outdated":
                context.console.print(entry.reference.short)
    else:
        context.console.table(_HEADINGS, [_row(entry) for entry in shown])
        old = sum(entry.status == "outdated" for entry in found)
        context.console.say(
            f"{counted(len(found), 'name')}, {old} outdated"
            + (": `modelrunner update --all` updates them" if old else "")
        )
    failed = [entry.problem for entry in found if entry.problem is not None]
    if failed and len(failed) == len(found):
        raise max(failed, key=lambda error: error.exit_code)


@command(examples="  modelrunner update ai/smollm2\n  modelrunner update --all")
def update(
    context: Context,
    references: Annotated[
        list[str] | None, Argument(metavar="[REF...]", help="Models to update.")
    ] = None,
    all_: Annotated[bool, Option("--all", help="Update all local models.")] = False,
) -> None:
    """Update local models to what their tags point to now. Existing blobs are reused."""
    if bool(references) == all_:
        raise UsageError(
            "--all and model names cannot be combined" if all_ else "no model given",
            hint="name local models, or use --all",
        )
    context.require_network("update")
    asked = _asked(context, references)
    before = {str(reference): model for reference, model in asked}
    results = []
    for outcome in pull_many(context, [reference for reference, _ in asked]):
        result = Result(outcome)
        if isinstance(outcome, Pulled):
            old = before[str(outcome.reference)]
            if old.digest != outcome.model.digest:
                matter = difference(outcome.reference, old.artifact, outcome.model.artifact)
                result = replace(result, replaced=str(old.digest), change=matter)
        results.append(result)
    show_all(context, results)
    left = sum(result.replaced is not None for result in results)
    if left:
        context.console.say(f"{counted(left, 'previous version')} kept until `modelrunner prune`")


def _asked(context: Context, texts: Sequence[str] | None) -> list[tuple[Reference, StoredModel]]:
    """Return the names to check, with their models.

    Raises:
        ModelNotFoundError: A model is not in the local store.
        UsageError: A model was not pulled by a tag.
    """
    known = names(context.store)
    if not texts:
        return known
    found: dict[str, tuple[Reference, StoredModel]] = {}
    for text in texts:
        model = context.store.resolve(text)
        wanted = Reference.parse(text)
        if wanted.is_local:
            raise context.store.unregistered(context.store.only_name(text) or wanted)
        meant = [entry for entry in known if entry[1].digest == model.digest]
        named = [entry for entry in meant if entry[0] == model.name_for(wanted)] or meant
        if not named:
            raise UsageError(
                f"{text}: not pulled by a tag, so its registry cannot be asked about it",
                hint="pull it by a tag first: `modelrunner pull NAME:TAG`",
            )
        found |= {str(reference): (reference, each) for reference, each in named}
    return list(found.values())


def _row(entry: Standing) -> tuple[str, ...]:
    here = entry.model.digest.short
    if entry.problem is not None:
        return entry.reference.short, here, "", f"({entry.problem.message})"
    there = "" if entry.there is None else entry.there.short
    said = {"up-to-date": "up to date", "outdated": entry.change or "changed"}
    return entry.reference.short, here, there, said.get(entry.status, "")


def _to_dict(entry: Standing) -> dict[str, object]:
    return {
        "reference": str(entry.reference),
        "status": entry.status,
        "digest": str(entry.model.digest),
        "available": None if entry.there is None else str(entry.there),
        "change": entry.change,
        "error": None if entry.problem is None else entry.problem.to_dict(),
    }
