"""Keeping what is locked: every other model is planned for removal, shown, and then removed."""

from collections.abc import Collection
from dataclasses import dataclass

from modelrunner.errors import IntegrityError
from modelrunner.oci.digest import Digest
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.sweep import remove_blobs_of


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A model that no lock names, and the bytes that its removal frees."""

    model: StoredModel
    freed: int

    @property
    def title(self) -> str:
        """Its names, or its ID."""
        return ", ".join(name.short for name in self.model.references) or self.model.digest.short


def unlocked(store: Store, keep: Collection[Digest]) -> tuple[Unlocked, ...]:
    """The models that are not to be kept; what several of them share is counted once."""
    models = store.models()
    counted = {digest for model in models if model.digest in keep for digest in _sizes(model)}
    found = []
    for model in models:
        if model.digest in keep:
            continue
        own = {digest: size for digest, size in _sizes(model).items() if digest not in counted}
        counted |= own.keys()
        found.append(Unlocked(model, sum(own.values())))
    return tuple(found)


def remove_unlocked(store: Store, keep: Collection[Digest]) -> tuple[Unlocked, ...]:
    """Removes them, names first; what that came to.

    Raises:
        StoreAccessError: The store may not be written.
    """
    removed = []
    for planned in unlocked(store, keep):
        store.forget(planned.model.digest)
        removed.append(Unlocked(planned.model, remove_blobs_of(store, planned.model)))
    return tuple(removed)


def _sizes(model: StoredModel) -> dict[Digest, int]:
    sizes = {model.digest: model.descriptor.size}
    try:
        return sizes | {blob.digest: blob.size for blob in model.manifest.blobs}
    except IntegrityError:
        # it does not tell what it has
        return sizes
