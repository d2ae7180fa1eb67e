"""What the commands share that pull: one model or several, shown, and ended in good order."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from modelrunner.cli.context import Context
from modelrunner.cli.progress.select import progress
from modelrunner.cli.views.pull import print_failure
from modelrunner.errors import CanceledByUserError
from modelrunner.events import Event, Listener, Started
from modelrunner.huggingface.names import normalized
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.hub_address import unquoted
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.near import typed
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.purpose import require_chat_remotely
from modelrunner.operations.pull import many as together
from modelrunner.operations.pull.local_copies import nowhere, programs
from modelrunner.operations.pull.outcome import Failed, Outcome, Pulled
from modelrunner.operations.pull.pull import Puller
from modelrunner.registry.source import Choice
from modelrunner.store.store import Store
from modelrunner.text import sanitize_line
from modelrunner.transfer.budget import Budget
from modelrunner.transfer.limits import Limits
from modelrunner.units import format_size


def pull_one(
    context: Context,
    reference: Reference,
    limits: Limits | None = None,
    *,
    shows_need: bool = False,
    chats: bool = False,
) -> Pulled:
    """Pulls with progress; one that is ended from outside says what is kept.

    Args:
        context: Where to put it, and whom to tell.
        reference: The model.
        limits: On the transfer.
        shows_need: Whether to say how much memory it needs, before its weights move.
        chats: Whether it has to be a model that chats, which is found out before they move.
    """
    here = _here(context, reference) if context.offline else None
    if here is not None:
        return here
    with _shown(context) as listener:
        puller = _puller(context, listener, limits, shows_need=shows_need, chats=chats)
        return puller.pull(reference)


def pull_many(
    context: Context,
    references: Sequence[Reference],
    limits: Limits | None = None,
    *,
    fail_fast: bool = False,
    shows_need: bool = False,
) -> tuple[Outcome, ...]:
    """Pulls side by side with one progress; each failure is told at once, and is of one model.

    Args:
        context: Where to put them, and whom to tell.
        references: The models; what is given twice is pulled once.
        limits: On all transfers together.
        fail_fast: Whether the first failure ends the others.
        shows_need: Whether to say how much memory each needs, before its weights move.

    Returns:
        What became of each, in the order of the references, without what was given twice.
    """
    found: dict[str, Outcome] = {}
    for reference in references if context.offline else ():
        here = _here(context, reference)
        if here is not None:
            found[str(reference)] = here
    rest = [reference for reference in references if str(reference) not in found]

    explained: dict[int, Failed] = {}

    def tell(outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            better = Failed(outcome.reference, context.explained(outcome.error))
            explained[id(outcome)] = better
            print_failure(context, better)

    with _shown(context, len({str(reference) for reference in rest})) as listener:
        puller = _puller(context, listener, limits, shows_need=shows_need)
        outcomes = together.pull_many(puller, rest, fail_fast=fail_fast, on_outcome=tell)
    found |= {str(outcome.reference): explained.get(id(outcome), outcome) for outcome in outcomes}
    return tuple({str(reference): found[str(reference)] for reference in references}.values())


def _puller(
    context: Context,
    listener: Listener,
    limits: Limits | None,
    *,
    shows_need: bool,
    chats: bool = False,
) -> Puller:
    def on_config(reference: Reference, artifact: ModelArtifact, config: ModelConfig) -> None:
        if chats:
            pinned = reference.with_digest(artifact.manifest.digest)
            require_chat_remotely(context.source_for(reference), pinned, artifact, config)
        if shows_need:
            _print_need(context, reference, artifact, config)

    def on_choice(reference: Reference, choice: Choice) -> None:
        said = _chosen(reference, choice)
        if said:
            context.console.say(said)

    return Puller(
        context.store,
        context.source_for,
        listener,
        context.registries.backoff,
        Budget(limits),
        on_choice=on_choice,
        on_config=on_config,
        nearby=programs(context.environ) if context.settings.reuse else nowhere,
        check=context.workspace.check,
    )


@contextmanager
def _shown(context: Context, models: int = 1) -> Iterator[Listener]:
    """The block of a transfer; where it is ended from outside, it says what is kept."""
    begun: dict[str, int] = {}
    try:
        with progress(context.console, models=models) as show:

            def listen(event: Event) -> None:
                if isinstance(event, Started):
                    begun[event.digest] = event.size
                show(event)

            yield listen
    except (KeyboardInterrupt, SystemExit):
        kept = _kept(context.store, begun)
        said = f"interrupted; {format_size(kept)} kept"
        context.console.say(f"{said}. Run the same command to resume.")
        # for the error object that `main` writes
        context.on_interruption(
            CanceledByUserError(said, hint="run the same command to resume", kept_bytes=kept)
        )
        raise


def _chosen(reference: Reference, choice: Choice) -> str | None:
    """What is taken, where the name leaves that open; None where the name says it."""
    tag, label = reference.tag or "", choice.name.tag or ""
    named = normalized(tag) == label or label.lower() == tag.lower() or unquoted(tag) == choice.file
    parts = [] if named else [label, sanitize_line(choice.file, 200)]
    if choice.projector is not None and (choice.others or not named):
        others = ", ".join(sanitize_line(path, 200) for path in choice.others)
        also = f" (also available: {others})" if others else ""
        parts.append(f"projector {sanitize_line(choice.projector, 200)}{also}")
    return f"{typed(reference)}: using {', '.join(dict.fromkeys(parts))}" if parts else None


def _print_need(
    context: Context, reference: Reference, artifact: ModelArtifact, config: ModelConfig
) -> None:
    architecture = config.gguf.get("general.architecture", "")
    if f"{architecture}.block_count" not in config.gguf:
        # it does not tell, and the pull does not wait for what would read it
        return
    from modelrunner.cli.steps.fitting import print_need

    print_need(context, reference, artifact, config)


def _here(context: Context, reference: Reference) -> Pulled | None:
    """The result where nothing is to be fetched, None where something is missing."""
    begun = time.monotonic()
    model = context.store.complete(reference)
    if model is None:
        return None
    return Pulled(reference, model, "up-to-date", 0, 0, time.monotonic() - begun, None)


def _kept(store: Store, begun: Mapping[str, int]) -> int:
    """How much of these blobs the next pull need not fetch."""
    found = 0
    for digest, size in begun.items():
        blob = Descriptor("", Digest.parse(digest), size)
        found += size if store.blobs.path(blob.digest).exists() else store.blobs.partial_bytes(blob)
    return found
