"""What of a lock is here: told from sizes and stamps, without a network.

A model that is all here gets the name that the lock gives it, so that `run` and `path` find it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelrunner.errors import LockOutdatedError, NotInStoreError
from modelrunner.lockfile.lock import Lock, LockedBlob, LockedModel
from modelrunner.oci.reference import Reference
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_size

_MANIFEST = "manifest"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
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
        return f"{self.model.name} (of it {said}, {format_size(self.size)})"


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
    more = f"; and {len(found) - _SHOWN} models more" if len(found) > _SHOWN else ""
    raise NotInStoreError(
        f"locked, but not here: {names}{more}",
        hint="`modelrunner pull --locked` fetches what is missing",
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
    """Refuses a lock that says of a manifest what it does not: somebody has edited it.

    Raises:
        LockOutdatedError: It does.
    """
    told = {(blob.digest, blob.size, blob.media_type) for blob in locked.blobs}
    real = {(blob.digest, blob.size, blob.media_type) for blob in model.manifest.blobs}
    if told != real:
        raise LockOutdatedError(
            f"{lock.file}:{locked.line}: the manifest of {locked.name} names other blobs than the"
            " lock: one of the two was edited",
            hint=f"run `modelrunner lock --update {locked.name}`, and see what changes",
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
