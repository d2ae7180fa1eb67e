"""`modelrunner configure`."""

from collections.abc import Mapping
from dataclasses import asdict
from textwrap import fill
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import (
    Assignments,
    ChatTemplate,
    ContextSize,
    Draft,
    GpuLayers,
    KvType,
    Parallel,
    RepeatPenalty,
    System,
    Temperature,
    Think,
    Threads,
    TopP,
)
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.errors import (
    IntegrityError,
    ModelNotFoundError,
    UnsupportedArtifactError,
    UsageError,
)
from modelrunner.oci.reference import Reference, match_id
from modelrunner.operations.estimate.observations import weights_key
from modelrunner.operations.launch.builds import WorkedBuild
from modelrunner.operations.launch.configure import Configurations
from modelrunner.operations.launch.precedence import LaunchOptions, tagged
from modelrunner.runtime import settings
from modelrunner.runtime.settings import Value
from modelrunner.text import did_you_mean

_KNOWN = "\n".join(
    fill(
        f"{known.doc}: {known.kind}", 78, initial_indent=f"  {key:<15} ", subsequent_indent=" " * 18
    )
    for key, known in settings.KNOWN.items()
)


@command(
    examples="  modelrunner configure ai/smollm2 --context 4096 --kv-type q8_0\n"
    '  modelrunner configure ai/smollm2 --system "Answer in French." --temperature 0.3\n'
    "  modelrunner configure ai/smollm2 --unset context",
    more=f"Settings:\n{_KNOWN}",
)
def configure(
    context: Context,
    reference: Annotated[str, Argument(metavar="REF", help="Model to save settings for.")],
    context_size: ContextSize = None,
    parallel: Parallel = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    kv_type: KvType = None,
    draft: Draft = None,
    chat_template: ChatTemplate = None,
    think: Think = None,
    system: System = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    repeat_penalty: RepeatPenalty = None,
    assignments: Assignments = None,
    unset: Annotated[
        list[str] | None,
        Option("--unset", metavar="KEY", help="Remove a saved setting; can be repeated."),
    ] = None,
    show: Annotated[
        bool, Option("--show", help="Show the saved settings and change nothing.")
    ] = False,
) -> None:
    """Save settings that apply each time a model starts; command-line options take precedence.

    Without options, show the saved settings.
    """
    options = LaunchOptions(
        context=context_size,
        parallel=parallel,
        threads=threads,
        gpu_layers=gpu_layers,
        kv_type=kv_type,
        draft=draft,
        chat_template=chat_template,
        think=think,
        system=system,
        temperature=temperature,
        top_p=top_p,
        repeat_penalty=repeat_penalty,
        assignments=assignments or (),
    )
    add, remove = options.settings(), unset or []
    if show and (add or remove):
        raise UsageError(
            "--show cannot be combined with changes", hint="remove --show, or the changes"
        )
    both = sorted(set(add).intersection(map(settings.canonical, remove)))
    if both:
        raise UsageError(
            f"cannot set and unset {both[0]} at the same time", hint="remove one of the two"
        )
    name = _named(context, reference)
    configurations = Configurations(context.settings.state, context.settings.own_state)
    if add:
        _require_plausible(context, name, reference)
    kept = configurations.change(name, add, remove) if add or remove else configurations.of(name)
    if add and context.store.find(name) is None:
        context.console.warn(f"{name.short} is not in the local store; settings saved anyway")
    _show_settings(context, name, kept)


def _named(context: Context, text: str) -> Reference:
    """Return the name under which settings are stored; for an ID, the model's first name."""
    if match_id(text):
        model = context.store.lookup(text)
        if model is not None and model.references:
            return model.references[0]
    reference = Reference.parse(text)
    if reference.is_local and context.store.lookup(text) is not None:
        reference = context.store.only_name(text) or reference
    return tagged(reference)


def _require_plausible(context: Context, name: Reference, text: str) -> None:
    """Refuse a name that is most likely misspelled; a completely unknown name is accepted.

    Raises:
        ModelNotFoundError: No model has this name, and one has a similar name.
    """
    if context.store.find(name) is not None:
        return
    # most models are in the local store
    from modelrunner.cards.catalog import Catalog
    from modelrunner.operations.model.suggestions import near_models

    catalog = Catalog.load()
    if catalog.get(name.short) is not None:
        return
    stored, known = near_models(name, context.store, catalog)
    found = {entry: Reference.parse(entry).repository for entry in (*stored, *known)}
    # the same model of another registry or namespace, or with another tag, says nothing
    last = name.repository.rpartition("/")[2]
    if found and all(repository.rpartition("/")[2] != last for repository in found.values()):
        near = list(found)[:3]
        raise ModelNotFoundError(
            f"{text[:200]}: not in the local store",
            hint=f"{did_you_mean(near)} If not, pull the model first",
            reference=name.short,
            near=near,
        )


def _show_settings(context: Context, name: Reference, kept: Mapping[str, Value]) -> None:
    worked = _last_worked(context, name)
    if context.console.json:
        row = {"reference": str(name), "configuration": settings.to_dict(kept)}
        found = {} if worked is None else {"last_worked_with": asdict(worked)}
        context.console.emit({**row, **found})
        return
    for key, value in kept.items():
        context.console.print(f"{key}={settings.as_text(value)}")
    if not kept:
        context.console.say(f"no settings saved for {name.short}")
    if worked is not None:
        context.console.say(f"last worked with {worked.title}")


def _last_worked(context: Context, name: Reference) -> WorkedBuild | None:
    """Return the build of a runtime that a stored model last worked with."""
    model = context.store.find(name)
    try:
        return None if model is None else context.workspace.builds().of(weights_key(model.artifact))
    except (IntegrityError, UnsupportedArtifactError):
        # its settings can be changed all the same
        return None
