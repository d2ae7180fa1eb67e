"""Lock: what the models of an intent are just now, pinned; and what differs from before.

What is locked and still wanted stays as it is, whatever its tag stands for by now. Only manifests
are downloaded, and of weights no more than shows whether they fit.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from modelrunner.disk.files import disk_errors, write_atomically
from modelrunner.errors import (
    ConfigError,
    CorruptStoreError,
    DiskFullError,
    ModelRunnerError,
    NotFoundError,
    NotInStoreError,
    StoreAccessError,
)
from modelrunner.lockfile.changes import Change, why_other_runtime, why_unsatisfied
from modelrunner.lockfile.intent import Intent, ModelIntent
from modelrunner.lockfile.lock import Lock, LockedModel
from modelrunner.lockfile.reader import parse_lock
from modelrunner.lockfile.runtime import RUNTIME, LockedRuntime, RuntimeIntent
from modelrunner.lockfile.signer import LockedSigner
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.reference import Reference
from modelrunner.operations.lock.runtime import RuntimePinner
from modelrunner.operations.model.resolve import artifact_at
from modelrunner.operations.model.suggestions import pin
from modelrunner.registry.source import Source
from modelrunner.store.store import Store


@dataclass(frozen=True, slots=True)
class Gone:
    """A locked model, or runtime, whose tag or repository is there no more."""

    name: str
    before: LockedModel | LockedRuntime
    error: NotFoundError


Record = Callable[[Reference, Manifest, Sequence[LockedSigner]], tuple[LockedSigner, ...]]
"""Returns who has signed a model, by its name, its manifest and the signers of the lock before."""


def _nobody(*_: object) -> tuple[LockedSigner, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Locker:
    """Pins models.

    Attributes:
        store: Looked into first for a manifest, and only, where the network is ruled out.
        source_for: The registries.
        choose: The variant that fits, where the intent leaves that open.
        check: Raises where a model, by digest, does not fit.
        offline: Whether the network is ruled out.
        record: Returns who has signed a model, after those of the lock before.
        records_kept: Whether that is done for pins that stay, too.
    """

    store: Store
    source_for: Callable[[Reference], Source]
    choose: Callable[[ModelIntent], Reference]
    check: Callable[[ModelIntent, Reference], None]
    offline: bool = False
    record: Record = _nobody
    records_kept: bool = False

    def lock(self, intent: Intent, before: Lock, renew: Collection[str] = ()) -> Lock:
        """A lock that satisfies the intent.

        Args:
            intent: What is wanted.
            before: What is locked, and stays where it is still wanted.
            renew: Names of models, or the runtime's, to look up again all the same.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: A registry does not answer.
            DoesNotFitError: A model has to fit, and does not.
            NotInStoreError: The network is ruled out, and a model is not here.
            UnsupportedArtifactError, IntegrityError: It is not a model to run.
        """
        kept = {
            wanted.name: locked
            for wanted in intent.models
            if wanted.name not in renew
            and (locked := before.get(wanted.name)) is not None
            and why_unsatisfied(locked, wanted) is None
        }
        if self.records_kept and not renew:
            # where models are named, the others keep theirs: not everybody signs everything
            kept = {
                wanted.name: self._recorded(intent, wanted, kept[wanted.name])
                for wanted in intent.models
                if wanted.name in kept
            }
        return Lock(
            tuple(
                kept.get(wanted.name)
                or self._pin(intent, wanted, before, repin=wanted.name in renew)
                for wanted in intent.models
            ),
            before.file,
            self._runtime(intent, before, repin=RUNTIME in renew),
        )

    def diff(self, intent: Intent, before: Lock) -> Iterator[Change | Gone]:
        """What every model is just now, against what is locked; those that are the same too.

        Raises:
            ModelRunnerError: As with `lock`, but for what is locked and gone.
        """
        for wanted in intent.models:
            locked = before.get(wanted.name)
            try:
                yield Change(wanted.name, locked, self._pin(intent, wanted, before, repin=True))
            except NotFoundError as exc:
                if locked is None:
                    raise
                yield Gone(wanted.name, locked, exc)
        if intent.runtime is not None:
            try:
                now = self._runtime(intent, before, repin=True)
                yield Change(RUNTIME, before.runtime, now)
            except NotFoundError as exc:
                if before.runtime is None:
                    raise
                yield Gone(RUNTIME, before.runtime, exc)

    def _runtime(self, intent: Intent, before: Lock, *, repin: bool) -> LockedRuntime | None:
        wanted, locked = intent.runtime, before.runtime
        if wanted is None:
            return None
        if locked is not None and not repin and why_other_runtime(locked, wanted) is None:
            return locked
        with _placed(intent, wanted):
            return RuntimePinner(self.source_for, self.offline).pin(wanted)

    def _recorded(self, intent: Intent, wanted: ModelIntent, locked: LockedModel) -> LockedModel:
        """A pin that stays, with who has signed it."""
        if self.record is _nobody:
            return replace(locked, signed=())
        with _placed(intent, wanted):
            pinned = locked.pinned
            artifact = self._here(pinned) if self.offline else self._there(pinned)
            signed = self.record(locked.reference, artifact.manifest, locked.signed)
            return replace(locked, signed=signed)

    def _pin(
        self, intent: Intent, wanted: ModelIntent, before: Lock, *, repin: bool
    ) -> LockedModel:
        with _placed(intent, wanted):
            reference = self.choose(wanted) if wanted.is_chosen else wanted.reference
            if reference.is_local:
                raise self.store.unregistered(reference)
            if repin and self.offline and not reference.pinned:
                # what the store has may be what the registry had long ago
                raise NotInStoreError(
                    f"{reference.short}: cannot ask the registry what it has now: --offline is set",
                    hint="run it without --offline",
                )
            artifact = self._here(reference) if self.offline else self._there(reference)
            if wanted.fit is not None and not wanted.is_chosen:
                self.check(wanted, reference.with_digest(artifact.manifest.digest))
            earlier = before.get(wanted.name)
            # who signs one repository says nothing of another
            same = earlier is not None and earlier.reference.name == reference.name
            signed = earlier.signed if earlier is not None and same else ()
            signed = self.record(reference, artifact.manifest, signed)
            found = LockedModel.of(wanted.name, reference, artifact, wanted.fit)
            return replace(found, signed=signed)

    def _here(self, reference: Reference) -> ModelArtifact:
        model = self.store.find(reference)
        if model is None:
            raise self.store.unreachable(reference)
        return model.whole

    def _there(self, reference: Reference) -> ModelArtifact:
        source = self.source_for(reference)
        pinned = pin(source, reference)
        stored = self.store.find(pinned)
        if stored is not None:
            try:
                return stored.whole
            except CorruptStoreError:
                # the registry has it whole
                pass
        return artifact_at(source, pinned)


def write_lock(path: Path, lock: Lock) -> bool:
    """Writes the file, unless it says the same already; whether it was written.

    Raises:
        ConfigError, DiskFullError: It cannot be written; the old one stays.
        LockError: What a registry has said cannot be locked.
    """
    target = path.resolve()
    content = lock.emit().encode()
    # whatever strange thing a registry has said: what could not be read again is not written
    parse_lock(content, str(path))
    try:
        # outside: a file of the project
        if path.read_bytes().replace(b"\r\n", b"\n") == content:
            return False
    except FileNotFoundError:
        pass
    try:
        with disk_errors(target):
            write_atomically(target, content)
    except (StoreAccessError, FileNotFoundError) as exc:
        raise ConfigError(
            f"cannot write {path}: {exc.__cause__ or exc}",
            hint="check the permissions of the file and its directory",
            path=str(path),
        ) from exc
    except DiskFullError as exc:
        raise DiskFullError(f"the disk is full: {path}", hint="free some space") from exc
    return True


@contextmanager
def _placed(intent: Intent, wanted: ModelIntent | RuntimeIntent) -> Iterator[None]:
    """Says of every failure which line of the intent it is about."""
    try:
        yield
    except ModelRunnerError as exc:
        exc.facts = {
            **exc.facts,
            "model": wanted.name,
            "file": intent.file,
            "line": wanted.line,
        }
        raise
