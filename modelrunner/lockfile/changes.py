"""Comparing: whether a lock satisfies an intent, and what differs between two locks of a model."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from modelrunner.lockfile.intent import Fit, Intent, ModelIntent
from modelrunner.lockfile.lock import CONFIG, Lock, LockedBlob, LockedModel

ChangeKind = Literal["added", "removed", "updated"]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One thing that an intent and its lock do not agree on.

    Attributes:
        name: The model.
        reason: A sentence about it.
        file: Which of the two files shows it.
        line: Where.
    """

    name: str
    reason: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


def disagreements(intent: Intent, lock: Lock) -> tuple[Disagreement, ...]:
    """Everything that the lock does not satisfy, sorted by name; empty where it does."""
    return tuple(sorted(_disagreements(intent, lock), key=lambda found: found.name))


def _disagreements(intent: Intent, lock: Lock) -> Iterator[Disagreement]:
    wanted = {model.name: model for model in intent.models}
    for model in intent.models:
        locked = lock.get(model.name)
        if locked is None:
            yield Disagreement(model.name, "is not locked", intent.file, model.line)
            continue
        reason = why_unsatisfied(locked, model)
        if reason is not None:
            yield Disagreement(model.name, reason, lock.file, locked.line)
    for locked in lock.models:
        if locked.name not in wanted:
            reason = f"is locked, but not listed in {intent.file}"
            yield Disagreement(locked.name, reason, lock.file, locked.line)


def why_unsatisfied(locked: LockedModel, wanted: ModelIntent) -> str | None:
    """Why a locked model is not the one that is wanted; None where it is."""
    here, there = locked.reference, wanted.reference
    if here.name != there.name or not (wanted.is_chosen or here.tag == there.tag):
        said = there.name if wanted.is_chosen else there.short
        return f"is locked as {here.short}, expected {said}"
    if there.digest is not None and there.digest != locked.manifest.digest:
        return f"is locked at {locked.manifest.digest.short}, expected {there.digest.short}"
    if locked.fit != wanted.fit:
        return f"was locked with {_said(locked.fit)}, expected {_said(wanted.fit)}"
    return None


@dataclass(frozen=True, slots=True)
class Change:
    """A model before and after; one of the two is missing where it came or went."""

    name: str
    before: LockedModel | None
    after: LockedModel | None

    @property
    def model(self) -> LockedModel:
        """The model as it is now, or was last."""
        found = self.after or self.before
        if found is None:
            raise ValueError("a change needs a model before or after it")
        return found

    @property
    def kind(self) -> ChangeKind:
        """What happened to it."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "updated"

    @property
    def gone(self) -> tuple[LockedBlob, ...]:
        """Blobs that it has no more."""
        return _without(self.before, self.after)

    @property
    def new(self) -> tuple[LockedBlob, ...]:
        """Blobs that it has not had."""
        return _without(self.after, self.before)

    @property
    def matter(self) -> str:
        """What is different, in a word or two: `weights`, `template only`, `manifest only`."""
        if self.before is None or self.after is None:
            return self.kind
        roles = sorted({blob.role for blob in (*self.gone, *self.new)})
        if not roles:
            same = self.before.manifest == self.after.manifest
            return "reference" if same else "manifest only"
        # a config lists what the model consists of, and so follows every other change
        others = [role for role in roles if role != CONFIG] or roles
        return " and ".join(others) if "weights" in others else f"{', '.join(others)} only"


def changes(before: Lock, after: Lock) -> tuple[Change, ...]:
    """What is different between two locks, sorted by name."""
    names = sorted({model.name for model in (*before.models, *after.models)})
    found = (Change(name, before.get(name), after.get(name)) for name in names)
    return tuple(change for change in found if change.before != change.after)


def _without(one: LockedModel | None, other: LockedModel | None) -> tuple[LockedBlob, ...]:
    known = {(blob.digest, blob.name) for blob in _blobs(other)}
    return tuple(blob for blob in _blobs(one) if (blob.digest, blob.name) not in known)


def _blobs(model: LockedModel | None) -> Iterable[LockedBlob]:
    return model.blobs if model is not None else ()


def _said(fit: Fit | None) -> str:
    return str(fit) if fit is not None else "no fit"
