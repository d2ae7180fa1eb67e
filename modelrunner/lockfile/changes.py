"""Comparing: whether a lock satisfies an intent, and what differs between two locks of a model."""

from collections.abc import Iterable, Iterator
from typing import Literal

from modelrunner.frozen import frozen, replace
from modelrunner.lockfile.intent import Fit, Intent, ModelIntent
from modelrunner.lockfile.lock import CONFIG, Lock, LockedBlob, LockedModel
from modelrunner.lockfile.runtime import RUNTIME, LockedRuntime, RuntimeIntent
from modelrunner.oci.reference import Reference

ChangeKind = Literal["added", "removed", "updated"]
IMAGE = "image"


@frozen
class Disagreement:
    """One thing that an intent and its lock do not agree on.

    Attributes:
        name: The model, or the runtime.
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
    found = (*_disagreements(intent, lock), *_of_runtime(intent, lock))
    return tuple(sorted(found, key=lambda found: found.name))


def _of_runtime(intent: Intent, lock: Lock) -> Iterator[Disagreement]:
    wanted, locked = intent.runtime, lock.runtime
    if wanted is None and locked is not None:
        reason = f"is locked, but not listed in {intent.file}"
        yield Disagreement(RUNTIME, reason, lock.file, locked.line)
    elif wanted is not None and locked is None:
        yield Disagreement(RUNTIME, "is not locked", intent.file, wanted.line)
    elif wanted is not None and locked is not None:
        reason_found = why_other_runtime(locked, wanted)
        if reason_found is not None:
            yield Disagreement(RUNTIME, reason_found, lock.file, locked.line)


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


def why_other_runtime(locked: LockedRuntime, wanted: RuntimeIntent) -> str | None:
    """Why a locked runtime is not the one that is wanted; None where it is."""
    return _why_other(locked, wanted.reference, wanted.reference.tag)


def why_unsatisfied(locked: LockedModel, wanted: ModelIntent) -> str | None:
    """Why a locked model is not the one that is wanted; None where it is."""
    there = wanted.reference
    # a variant that was chosen has any tag
    tag, said = (locked.reference.tag, there.name) if wanted.is_chosen else (there.tag, None)
    other = _why_other(locked, there, tag, said)
    if other is not None:
        return other
    if locked.fit != wanted.fit:
        return f"was locked with {_said(locked.fit)}, expected {_said(wanted.fit)}"
    return None


def _why_other(
    locked: LockedModel | LockedRuntime, there: Reference, tag: str | None, said: str | None = None
) -> str | None:
    here = locked.reference
    if here.name != there.name or here.tag != tag:
        return f"is locked as {here.short}, expected {said or there.short}"
    if there.digest is not None and there.digest != locked.manifest.digest:
        return f"is locked at {locked.manifest.digest.short}, expected {there.digest.short}"
    return None


@frozen
class Change:
    """A model, or the runtime, before and after; one of the two is missing if it came or went."""

    name: str
    before: LockedModel | LockedRuntime | None
    after: LockedModel | LockedRuntime | None

    @property
    def model(self) -> LockedModel | LockedRuntime:
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
            if self.before.manifest != self.after.manifest:
                return "manifest only"
            return "signers" if _signers_only(self.before, self.after) else "reference"
        if roles == [IMAGE]:
            return IMAGE
        # a config lists what the model consists of, and so follows every other change
        others = [role for role in roles if role != CONFIG] or roles
        return " and ".join(others) if "weights" in others else f"{', '.join(others)} only"

    @property
    def download_bytes(self) -> int:
        """Bytes that are new; of a runtime those of the platform that needs most."""
        sizes = [blob.size for blob in self.new]
        return max(sizes, default=0) if isinstance(self.after, LockedRuntime) else sum(sizes)


def changes(before: Lock, after: Lock) -> tuple[Change, ...]:
    """What is different between two locks, sorted by name; the runtime comes last."""
    names = sorted({model.name for model in (*before.models, *after.models)})
    found = [Change(name, before.get(name), after.get(name)) for name in names]
    found.append(Change(RUNTIME, before.runtime, after.runtime))
    return tuple(change for change in found if change.before != change.after)


def _signers_only(before: LockedModel | LockedRuntime, after: LockedModel | LockedRuntime) -> bool:
    if isinstance(before, LockedRuntime) or isinstance(after, LockedRuntime):
        return False
    return before != after and replace(before, signed=after.signed) == after


_Locked = LockedModel | LockedRuntime


def _without(one: _Locked | None, other: _Locked | None) -> tuple[LockedBlob, ...]:
    known = {(blob.digest, blob.name) for blob in blobs_of(other)}
    return tuple(blob for blob in blobs_of(one) if (blob.digest, blob.name) not in known)


def blobs_of(model: LockedModel | LockedRuntime | None) -> Iterable[LockedBlob]:
    """The blobs of a model; of a runtime, the image of each platform with its download's size."""
    if not isinstance(model, LockedRuntime):
        return model.blobs if model is not None else ()
    return [
        LockedBlob(
            IMAGE,
            image.title,
            image.manifest.digest,
            image.download_bytes,
            image.manifest.media_type,
        )
        for image in model.images
    ]


def _said(fit: Fit | None) -> str:
    return str(fit) if fit is not None else "no fit"
