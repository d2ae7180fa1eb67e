"""What of a lock is in the store: by sizes and stamps, without a network.

A model that is all here gets the name that the lock gives it, so that `run` and `path` find it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from modelrunner.errors import (
    LockOutdatedError,
    ManifestNotFoundError,
    ModelRunnerError,
    NotInStoreError,
    StoreAccessError,
)
from modelrunner.frozen import frozen, replace
from modelrunner.lockfile.lock import Lock, LockedBlob, LockedModel
from modelrunner.lockfile.project import Project
from modelrunner.lockfile.runtime import RUNTIME
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.pull.outcome import Failed, Outcome, Pulled
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_size

_MANIFEST = "manifest"
_SHOWN = 5


@frozen
class MissingBlobs:
    """A locked model of which something is missing or damaged."""

    model: LockedModel
    blobs: tuple[LockedBlob, ...]

    @property
    def size(self) -> int:
        """Bytes that are missing."""
        return sum(blob.size for blob in self.blobs)

    def __str__(self) -> str:
        if len(self.blobs) > len(self.model.unique):
            return f"{self.model.name} ({format_size(self.size)})"
        titles = [blob.title for blob in self.blobs]
        more = f" and {len(titles) - _SHOWN} more" if len(titles) > _SHOWN else ""
        said = f"{', '.join(titles[:_SHOWN])}{more}"
        return f"{self.model.name} ({said}, {format_size(self.size)})"


def lacks(store: Store, lock: Lock, models: Sequence[LockedModel]) -> tuple[MissingBlobs, ...]:
    """The models that are not all here, each with what is missing or damaged.

    Raises:
        LockOutdatedError: A manifest is here, and names other blobs than the lock.
    """
    found = [MissingBlobs(model, tuple(_lacking(store, lock, model))) for model in models]
    return tuple(lack for lack in found if lack.blobs)


def require_all(lock: Lock, found: Sequence[MissingBlobs]) -> None:
    """Refuses to go on without what is missing.

    Raises:
        NotInStoreError: Something is; each model and blob is named.
    """
    if not found:
        return
    names = "; ".join(map(str, found[:_SHOWN]))
    more = f"; and {len(found) - _SHOWN} more models" if len(found) > _SHOWN else ""
    raise NotInStoreError(
        f"locked, but not in the local store: {names}{more}",
        hint="run `modelrunner pull --locked`",
        file=lock.file,
        line=found[0].model.line,
        missing=[f"{lack.model.name} {blob.digest}" for lack in found for blob in lack.blobs],
    )


def settle(
    store: Store, locked: LockedModel, model: StoredModel, name: Reference | None = None
) -> StoredModel:
    """Makes a model that is all here findable by the name that the lock gives it.

    Args:
        store: Where it is.
        locked: What the lock says of it.
        model: The model.
        name: The name that means it and no other, where the lock's leaves something open.

    Raises:
        StoreAccessError, DiskFullError: The name cannot be given.
    """
    if model.name_for(locked.reference) is not None:
        return model
    if name is None or str(name) == str(locked.reference):
        return store.add(model.manifest, [locked.reference], published=True)
    return store.add(model.manifest, [name], {locked.reference: name}, published=True)


def require_same(lock: Lock, locked: LockedModel, model: StoredModel) -> None:
    """Refuses a lock that says of a manifest what it does not: it was edited.

    Raises:
        LockOutdatedError: It does.
    """
    pinned = {(blob.digest, blob.size, blob.media_type) for blob in locked.blobs}
    # one blob may be listed with two types: an empty config, and a file that says `{}`
    listed = (model.manifest.config, *model.manifest.layers)
    real = {(blob.digest, blob.size, blob.media_type) for blob in listed}
    if not pinned <= real or {entry[:2] for entry in pinned} != {entry[:2] for entry in real}:
        raise LockOutdatedError(
            f"{lock.file}:{locked.line}: the blobs of {locked.name} differ between the lock "
            "and the manifest",
            hint=f"run `modelrunner lock --update {locked.name}` and review the changes",
            file=lock.file,
            line=locked.line,
            manifest=str(locked.manifest.digest),
        )


def _lacking(store: Store, lock: Lock, model: LockedModel) -> Iterator[LockedBlob]:
    manifest = model.manifest
    if store.blobs.state(manifest) == "good":
        # before anything is fetched for a lock that is wrong
        require_same(lock, model, StoredModel(store.layout, manifest, ()))
    else:
        yield LockedBlob(_MANIFEST, None, manifest.digest, manifest.size, manifest.media_type)
    for blob in model.unique:
        if store.blobs.state(blob.descriptor) != "good":
            yield blob


Check = Callable[[Reference, Manifest | Index], None]
"""Refuses a model, by its name and its manifest."""

Fetch = Callable[[Sequence[Reference], Check | None], Sequence[Outcome]]
"""Pulls references; the function refuses models before their weights are downloaded."""


@frozen
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


@frozen
class LockedPuller:
    """Pulls what a lock pins, each model by its digest; what is in the store needs no network.

    Where everything is there this reads sizes and stamps, and imports nothing that knows a network.
    Otherwise only digests are asked for: where a tag points by now does not matter.

    Attributes:
        store: Where the models go.
        offline: Whether the network is ruled out.
        fetch: Pulls references that have a digest, and returns in the same order what became of
            each; it is not called where nothing is missing. It asks the function before the
            weights of a model are downloaded, if there is one.
        check: Refuses a model that the policy keeps out; None where there is no policy.
        prove: Refuses a model that is not signed by those whom the lock records.
        warn: Takes warnings.
        on_gone: Called with a hint where a registry no longer has what the lock pins.
    """

    store: Store
    offline: bool
    fetch: Fetch
    check: Check | None
    prove: Callable[[Lock, LockedModel, Manifest | Index], None]
    warn: Callable[[str], None]
    on_gone: Callable[[str], None]

    def pull(self, project: Project, names: Sequence[str] = ()) -> tuple[LockedPull, ...]:
        """Pull the models of a project.

        Args:
            project: The two files.
            names: Which models; all where none is named. A runtime is not pulled by this.

        Raises:
            LockError: The lock does not satisfy the intent, or is malformed; or something is
                missing and the network is ruled out.
            UsageError: There is no intent, it is malformed, or names no such model.
        """
        begun = time.monotonic()
        intent, lock = project.agreed()
        models = [name for name in dict.fromkeys(names) if name != RUNTIME or not intent.runtime]
        wanted = [intent.model(name) for name in models] if names else list(intent.models)
        locked = [model for entry in wanted if (model := lock.get(entry.name)) is not None]
        missing = lacks(self.store, lock, locked)
        if self.offline:
            require_all(lock, missing)
        outcomes = self._fetched(lock, [lack.model for lack in missing])
        rest = [model for model in locked if model.name not in outcomes]
        outcomes |= self._stored(lock, rest, begun)
        folder = project.intent_path.parent
        outputs = {each.name: folder / each.output for each in wanted if each.output is not None}
        return tuple(
            LockedPull(model, outputs.get(model.name), outcomes[model.name]) for model in locked
        )

    def _stored(
        self, lock: Lock, models: Sequence[LockedModel], begun: float
    ) -> dict[str, Outcome]:
        """Models that are all in the store, named as the lock names them."""
        known = {model.digest: model for model in self.store.models()}
        found: dict[str, Outcome] = {}
        for locked in models:
            there = known.get(locked.manifest.digest) or StoredModel(
                self.store.layout, locked.manifest, ()
            )
            try:
                # without a policy and signers not even the manifest is read
                if self.check is not None:
                    self.check(locked.reference, there.manifest)
                if locked.signed:
                    self.prove(lock, locked, there.manifest)
            except ModelRunnerError as exc:
                found[locked.name] = Failed(locked.reference, exc)
                continue
            try:
                model = settle(self.store, locked, there)
            except StoreAccessError as exc:
                # its files can be used all the same
                self.warn(f"cannot add the name {locked.reference.short} to the local store: {exc}")
                model = there
            spent = time.monotonic() - begun
            found[locked.name] = Pulled(locked.reference, model, "up-to-date", 0, 0, spent, None)
        return found

    def _fetched(self, lock: Lock, models: Sequence[LockedModel]) -> dict[str, Outcome]:
        """What became of those that were missing."""
        if not models:
            return {}
        # two names of one content are one thing to fetch
        wanted = {str(model.pinned): model.pinned for model in models}
        fetched = self.fetch(tuple(wanted.values()), self._proof_of(lock, models))
        results = dict(zip(wanted, fetched, strict=True))
        found: dict[str, Outcome] = {}
        for locked in models:
            outcome = results[str(locked.pinned)]
            if isinstance(outcome, Pulled):
                try:
                    found[locked.name] = self._settled(lock, locked, outcome)
                except ModelRunnerError as exc:
                    found[locked.name] = Failed(locked.reference, exc)
            elif isinstance(outcome, Failed):
                error = self._located(outcome.error, lock, locked)
                found[locked.name] = Failed(locked.reference, error)
            else:
                found[locked.name] = replace(outcome, reference=locked.reference)
        return found

    def _proof_of(self, lock: Lock, models: Sequence[LockedModel]) -> Check | None:
        """What asks for the signers of models that are pulled; None where none are recorded."""
        signed = [model for model in models if model.signed]
        if not signed:
            return None

        def check(_: Reference, manifest: Manifest | Index) -> None:
            for locked in signed:
                if locked.manifest.digest == manifest.digest:
                    self.prove(lock, locked, manifest)

        return check

    def _settled(self, lock: Lock, locked: LockedModel, pulled: Pulled) -> Pulled:
        require_same(lock, locked, pulled.model)
        choice = pulled.choice
        model = settle(self.store, locked, pulled.model, None if choice is None else choice.name)
        if locked.pinned != locked.reference:
            # the pull knew it by no other name
            self.store.untag([locked.pinned])
        return replace(pulled, reference=locked.reference, model=model)

    def _located(
        self, error: ModelRunnerError, lock: Lock, locked: LockedModel
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
            # the failure was shown when it happened, and this was not known there
            self.on_gone(error.hint)
        return error
