"""What is behind `pull --locked` and `--frozen`: from the two files to models that are here.

Where everything is here this asks sizes and stamps, and imports nothing that knows a network.
Otherwise only digests are asked for: where a tag points by now does not matter.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelrunner.cli.context import Context
from modelrunner.errors import ManifestNotFoundError, ModelRunnerError, StoreAccessError
from modelrunner.lockfile.lock import Lock, LockedModel
from modelrunner.lockfile.project import Project
from modelrunner.oci.reference import Reference
from modelrunner.operations.pull.locked import lacks, require_all, require_same, settle
from modelrunner.operations.pull.outcome import Failed, Outcome, Pulled
from modelrunner.store.store import StoredModel


@dataclass(frozen=True, slots=True)
class LockedPull:
    """What became of one model of a lock.

    Attributes:
        locked: The model.
        output: Where the project wants its files.
        outcome: What the pull came to; its reference is the one that the lock has.
    """

    locked: LockedModel
    output: Path | None
    outcome: Outcome


def pull_locked(
    context: Context,
    *,
    frozen: bool,
    names: Sequence[str],
    file: Path | None,
    fetch: Callable[[Sequence[Reference]], Sequence[Outcome]],
) -> tuple[LockedPull, ...]:
    """Brings the models of a lock here, each by its digest; what is here already asks nobody.

    Args:
        context: Where to put them.
        frozen: Whether the network is ruled out.
        names: Which; all where none is named.
        file: The `modelrunner.toml`; the one in this folder where it is None.
        fetch: Brings here what has a digest, and tells in the same order what became of each;
            it is not called where nothing is missing.

    Raises:
        LockError: The lock does not satisfy the intent, or says something wrong; or something
            is missing and the network is ruled out.
        UsageError: There is no intent, it says something wrong, or names no such model.
    """
    begun = time.monotonic()
    project = Project.at(file)
    intent, lock = project.agreed()
    wanted = [intent.model(name) for name in dict.fromkeys(names)] or intent.models
    locked = [model for entry in wanted if (model := lock.get(entry.name)) is not None]
    missing = lacks(context.store, lock, locked)
    if frozen or context.options.offline:
        require_all(lock, missing)
    outcomes = _fetched(context, lock, [lack.model for lack in missing], fetch)
    outcomes |= _here(context, [model for model in locked if model.name not in outcomes], begun)
    folder = project.intent_path.parent
    outputs = {entry.name: folder / entry.output for entry in wanted if entry.output is not None}
    return tuple(
        LockedPull(model, outputs.get(model.name), outcomes[model.name]) for model in locked
    )


def _here(context: Context, models: Sequence[LockedModel], begun: float) -> dict[str, Outcome]:
    """Models that are all here, named as the lock names them."""
    known = {model.digest: model for model in context.store.models()}
    found: dict[str, Outcome] = {}
    for locked in models:
        there = known.get(locked.manifest.digest) or StoredModel(
            context.store.layout, locked.manifest, ()
        )
        try:
            # without a policy not even the manifest is read
            if context.guarded:
                context.check(locked.reference, there.manifest)
        except ModelRunnerError as exc:
            found[locked.name] = Failed(locked.reference, exc)
            continue
        try:
            model = settle(context.store, locked, there)
        except StoreAccessError as exc:
            # its files can be used all the same
            context.console.warn(
                f"cannot add the name {locked.reference.short} to the local store: {exc}"
            )
            model = there
        spent = time.monotonic() - begun
        found[locked.name] = Pulled(locked.reference, model, "up-to-date", 0, 0, spent, None)
    return found


def _fetched(
    context: Context,
    lock: Lock,
    models: Sequence[LockedModel],
    fetch: Callable[[Sequence[Reference]], Sequence[Outcome]],
) -> dict[str, Outcome]:
    """What became of those that were missing."""
    if not models:
        return {}
    # two names of one content are one thing to fetch
    wanted = {str(model.pinned): model.pinned for model in models}
    results = dict(zip(wanted, fetch(tuple(wanted.values())), strict=True))
    found: dict[str, Outcome] = {}
    for locked in models:
        outcome = results[str(locked.pinned)]
        if isinstance(outcome, Pulled):
            try:
                found[locked.name] = _settled(context, lock, locked, outcome)
            except ModelRunnerError as exc:
                found[locked.name] = Failed(locked.reference, exc)
        elif isinstance(outcome, Failed):
            found[locked.name] = Failed(
                locked.reference, _placed(context, outcome.error, lock, locked)
            )
        else:
            found[locked.name] = replace(outcome, reference=locked.reference)
    return found


def _settled(context: Context, lock: Lock, locked: LockedModel, pulled: Pulled) -> Pulled:
    require_same(lock, locked, pulled.model)
    choice = pulled.choice
    model = settle(context.store, locked, pulled.model, None if choice is None else choice.name)
    if locked.pinned != locked.reference:
        # the pull knew it by no other name
        context.store.untag([locked.pinned])
    return replace(pulled, reference=locked.reference, model=model)


def _placed(
    context: Context, error: ModelRunnerError, lock: Lock, locked: LockedModel
) -> ModelRunnerError:
    """A failure with the line of the lock, and with what helps where its content is gone."""
    error.facts = {
        **error.facts,
        "model": locked.name,
        "file": lock.file,
        "line": locked.line,
    }
    if isinstance(error, ManifestNotFoundError):
        error.hint = (
            f"the registry no longer has what {lock.file} pins: `modelrunner lock --update"
            f" {locked.name}` pins the current {locked.reference.short}"
        )
        # the failure was told when it happened, and this was not known there
        context.console.say(f"hint: {error.hint}")
    return error
