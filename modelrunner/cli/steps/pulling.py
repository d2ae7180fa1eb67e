"""What commands that pull share: progress, notes, and the line that an interruption ends with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelrunner.cli.context import Context
from modelrunner.cli.progress.select import progress
from modelrunner.cli.terminal.console import ProgressMode
from modelrunner.cli.views.pull import print_failure
from modelrunner.errors import CanceledByUserError, ModelRunnerError
from modelrunner.events import Event, Listener, Started
from modelrunner.frozen import replace
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.reference import Reference
from modelrunner.operations.pull.outcome import Failed, Outcome, Pulled, kept_bytes, stored
from modelrunner.operations.pull.pull import Puller
from modelrunner.registry.source import Choice
from modelrunner.transfer.limits import Limits
from modelrunner.units import format_size

if TYPE_CHECKING:
    from modelrunner.lockfile.project import Project
    from modelrunner.operations.pull.fit import Fitting
    from modelrunner.operations.runtimes.locked import RuntimePulled


def pull_one(
    context: Context,
    reference: Reference,
    limits: Limits | None = None,
    *,
    shows_need: bool = False,
    runs: bool = False,
    chats: bool = False,
    referrers: str | None = None,
) -> Pulled:
    """Pull a model, with progress; if interrupted, print how much is kept.

    Args:
        context: The workspace and the terminal.
        reference: The model.
        limits: On the transfer.
        shows_need: Whether to print how much memory it needs, before its weights are downloaded.
        runs: Whether to refuse a model that llama.cpp cannot run, before weights are downloaded.
        chats: Likewise, whether to refuse one that does not chat.
        referrers: What to keep of that which refers to the model, see `Workspace.puller`.
    """
    found = stored(context.store, reference) if context.offline else None
    if found is not None:
        _check(context, found)
        return found
    with _shown(context) as listener:
        puller = _puller(
            context,
            listener,
            limits,
            shows_need=shows_need,
            runs=runs,
            chats=chats,
            referrers=referrers,
        )
        pulled = puller.pull(reference)
    _warn_of_referrers(context, pulled)
    return pulled


def pull_many(
    context: Context,
    references: Sequence[Reference],
    limits: Limits | None = None,
    *,
    fail_fast: bool = False,
    shows_need: bool = False,
    referrers: str | None = None,
) -> tuple[Outcome, ...]:
    """Pull models side by side, with one progress; print each failure at once.

    Args:
        context: The workspace and the terminal.
        references: The models; duplicates are pulled once.
        limits: On all transfers together.
        fail_fast: Whether the first failure ends the others.
        shows_need: Whether to print how much memory each needs, before its weights are downloaded.
        referrers: What to keep of that which refers to the models, see `Workspace.puller`.

    Returns:
        The outcome of each, in the order of the references, without duplicates.
    """
    found: dict[str, Outcome] = {}
    for reference in references if context.offline else ():
        complete = stored(context.store, reference)
        if complete is None:
            continue
        try:
            _check(context, complete)
        except ModelRunnerError as exc:
            found[str(reference)] = failed = Failed(reference, context.explained(exc))
            print_failure(context, failed)
        else:
            found[str(reference)] = complete
    rest = [reference for reference in references if str(reference) not in found]

    explained: dict[int, Failed] = {}

    def report(outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            better = Failed(outcome.reference, context.explained(outcome.error))
            explained[id(outcome)] = better
            print_failure(context, better)

    with _shown(context, len({str(reference) for reference in rest})) as listener:
        puller = _puller(context, listener, limits, shows_need=shows_need, referrers=referrers)
        # who pulls one model starts no threads for several
        from modelrunner.operations.pull import many as together

        outcomes = together.pull_many(puller, rest, fail_fast=fail_fast, on_outcome=report)
    for outcome in outcomes:
        if isinstance(outcome, Pulled):
            _warn_of_referrers(context, outcome)
    found |= {str(outcome.reference): explained.get(id(outcome), outcome) for outcome in outcomes}
    return tuple({str(reference): found[str(reference)] for reference in references}.values())


def pull_runtime(
    context: Context, project: "Project", names: Sequence[str], limits: Limits
) -> "RuntimePulled | None":
    """Install the runtime that a project's lock pins, with progress; None if it has none."""
    with _shown(context) as listener:
        found = context.workspace.runtime_puller(listener, limits).pull(project, names)
    for problem in () if found is None else found.lacking:
        context.console.warn(problem)
    return found


def fitted(context: Context, text: str, fitting: "Fitting") -> str:
    """Return the model to pull; print which variant was chosen, and warn if it may not fit.

    Raises:
        UsageError: `--fit` is to choose a tag, and one was given.
        DoesNotFitError: It does not fit, and has to.
    """
    if not (fitting.choose or fitting.require):
        return text
    found = context.workspace.fitted(text, fitting)
    if found.note is not None:
        context.console.say(found.note)
    if found.warning is not None:
        context.console.warn(found.warning)
    return found.text


def _puller(
    context: Context,
    listener: Listener,
    limits: Limits | None,
    *,
    shows_need: bool,
    runs: bool = False,
    chats: bool = False,
    referrers: str | None = None,
) -> Puller:
    def on_config(reference: Reference, artifact: ModelArtifact, config: ModelConfig) -> None:
        if runs:
            artifact.require_runnable(replace(reference, digest=None).short)
        if chats:
            # what reads headers is loaded where a chat comes next
            from modelrunner.operations.model.purpose import require_chat_remotely

            pinned = reference.with_digest(artifact.manifest.digest)
            require_chat_remotely(context.source_for(reference), pinned, artifact, config)
        if shows_need and config.has_shape and _has_room_for_notes(context):
            # what estimates is loaded where an estimate is shown
            from modelrunner.operations.pull.fit import need_of

            report = need_of(context.workspace.estimator(), reference, artifact, config)
            if report is not None:
                context.console.say(report.line(), filled=True)

    def on_choice(reference: Reference, choice: Choice) -> None:
        # most names leave nothing open
        from modelrunner.cli.views.choice import choice_line

        line = choice_line(reference, choice)
        if line is not None:
            context.console.say(line)

    return context.workspace.puller(
        listener, limits, on_choice=on_choice, on_config=on_config, referrers=referrers
    )


def _check(context: Context, found: Pulled) -> None:
    """Refuse a stored model that the policy keeps out; without a policy nothing is read."""
    if context.workspace.guarded:
        context.workspace.check(found.reference, found.model.manifest)


def _warn_of_referrers(context: Context, pulled: Pulled) -> None:
    """Warn where not all that refers to a model could be kept that was asked for."""
    kept = pulled.referrers
    if kept is None:
        return
    # a registry that has no such thing, or is broken there, is a problem of who asked for it
    for problem in (kept.left_out, kept.problem if kept.is_asked_for else None):
        if problem is not None:
            name = pulled.reference.short
            context.console.warn(f"{name}: not all that refers to it is kept: {problem}")


def _has_room_for_notes(context: Context) -> bool:
    console = context.console
    silent = console.quiet or console.json
    return not silent and console.progress not in (ProgressMode.JSON, ProgressMode.NONE)


@contextmanager
def _shown(context: Context, models: int = 1) -> Iterator[Listener]:
    """Show transfers while the block runs; if interrupted, print how much is kept."""
    begun: dict[str, int] = {}
    try:
        with progress(context.console, models=models) as show:

            def listen(event: Event) -> None:
                if isinstance(event, Started):
                    begun[event.digest] = event.size
                show(event)

            yield listen
    except (KeyboardInterrupt, SystemExit):
        kept = kept_bytes(context.store, begun)
        said = f"interrupted; {format_size(kept)} kept"
        context.console.say(f"{said}. Run the same command to resume.")
        # for the error object that `main` writes
        context.on_interruption(
            CanceledByUserError(said, hint="run the same command to resume", kept_bytes=kept)
        )
        raise
